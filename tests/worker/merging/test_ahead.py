"""What a merge will read is in the page cache before it asks for it."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from studio.files import write_json
from studio.worker.merging import ahead
from tests.worker.conftest import write_config


def cached_pages(path: Path) -> int:
    """How many pages of a file are in memory."""
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view,
    ):
        pages = -(-len(view) // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        start = ctypes.c_char.from_buffer(view)
        failed = ctypes.CDLL(None, use_errno=True).mincore(ctypes.byref(start), ctypes.c_size_t(len(view)), found)
        del start
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(each & 1 for each in found)


def make_adapter(folder: Path, base: Path) -> Path:
    folder.mkdir()
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 4, "base_model_name_or_path": str(base)})
    save_file({}, folder / "adapter_model.safetensors")
    return folder


def test_the_base_is_read_before_anybody_asks(tiny_model: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    weights = base / "model.safetensors"
    save_file(load_file(weights), weights)
    with open(weights, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached_pages(weights):
        pytest.skip("this file system keeps its files in memory")
    adapter = make_adapter(tmp_path / "adapter", base)
    write_config(tmp_path / "run", "merge", base, base, {"adapter_name_or_path": str(adapter)})
    ahead.begin(tmp_path / "run")
    deadline = time.monotonic() + 20
    while cached_pages(weights) * mmap.PAGESIZE < weights.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_wrong_is_left_to_the_merge(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", tmp_path / "nowhere")
    for number, name in enumerate([str(adapter), "no-such-run"]):
        write_config(tmp_path / f"run-{number}", "merge", adapter, adapter, {"adapter_name_or_path": name})
        ahead.begin(tmp_path / f"run-{number}")
