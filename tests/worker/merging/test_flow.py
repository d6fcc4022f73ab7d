"""A merge from its request to its folder, and everything that can come between."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio import models
from studio.errors import ModelError
from studio.exports import report as reports
from studio.worker.door import Clock, Desk
from studio.worker.merging import flow, place
from studio.worker.merging.flow import Quarantined
from studio.worker.outputs import DiskFull
from studio.worker.report import Reporter
from studio.worker.stop import STOPPED, Requests
from tests.worker.conftest import ROOT, Disk, Finished, Start, Worker, make_model, write_config
from tests.worker.merging.bases import make_adapter

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KILLS = 100


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter folder as a training leaves it."""
    folder = make_adapter(tmp_path_factory.mktemp("adapter"), tiny_model, target_modules=ALL)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, folder)
    return folder


def merge(run_dir: Path, adapter: Path, **keys: Any) -> Finished:
    """Merge in this process, without the proof unless asked for."""
    write_config(run_dir, "merge", adapter, adapter, {"adapter_name_or_path": str(adapter), "verify": False, **keys})
    reporter = Reporter(run_dir)
    try:
        flow.merge(Desk(run_dir, reporter, Requests(run_dir, last_words=lambda: None), Clock()))
    finally:
        reporter.close()
    return Finished(run_dir)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_merge_from_run_directory_to_model(start: Start, adapter: Path, tiny_model: Path) -> None:
    worker = start("merge", adapter_name_or_path=str(adapter))
    assert worker.wait() == 0, worker.log
    folder = worker.run_dir / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(folder).chat_template
    report = reports.read(worker.run_dir)
    assert report
    assert report.passed
    written = report.facts["written"]
    assert written["outputs"]["model.safetensors"] == digests(folder)["model.safetensors"]
    inputs = (tiny_model / "model.safetensors", adapter / "adapter_model.safetensors")
    assert written["inputs"] == {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs}
    assert 50e6 < written["peak_bytes"] < 500e6  # torch is in there; Transformers and PEFT would be more
    assert list(written["seconds"]) == ["planning", "merging", "verifying"]
    result = worker.json("result.json")
    assert (result["output"], result["merged_weights"], result["kl"] < 1) == ("model", 14, True)
    assert result["adapter_sha256"] == models.fingerprint(adapter)
    assert not (worker.run_dir / "tmp").exists()


def test_what_is_not_proven_is_kept_apart(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(adapter, tmp_path / "broken")
    weights = load_file(broken / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = torch.nan
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(Quarantined, match=r"holds NaN or infinite numbers.* was put into .*/quarantine"):
        merge(tmp_path / "run", broken, verify=True)
    run = Finished(tmp_path / "run")
    kept = tmp_path / "run/quarantine"
    assert models.check(kept).parameters == models.check(tiny_model).parameters
    assert run.json("report.json")["facts"]["quarantine"] == str(kept)
    assert not run.json("report.json")["passed"]
    assert run.json("result.json") is None
    assert not (tmp_path / "run/model").exists()


def test_what_cannot_be_merged_leaves_a_card_and_no_model(start: Start, adapter: Path, tmp_path: Path) -> None:
    part = shutil.copytree(adapter, tmp_path / "part")
    weights = load_file(part / "adapter_model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layers.0.self_attn.q_proj.lora_B" not in name}
    save_file(kept, part / "adapter_model.safetensors")
    worker = start("merge", adapter_name_or_path=str(part))
    assert worker.wait() == 1
    assert "layers.0.self_attn.q_proj" in worker.json("error.json")["message"]
    assert not (worker.run_dir / "model").exists()
    assert not (worker.run_dir / "tmp").exists()


def test_an_export_folder_gets_the_model_and_the_run_leads_there(adapter: Path, tmp_path: Path) -> None:
    target = tmp_path / "我的 模型" / "merged model"
    run = merge(tmp_path / "run", adapter, export_dir=str(target))
    assert models.check(target).architecture == "LlamaForCausalLM"
    assert (run.run_dir / "model").resolve() == target
    assert list(target.parent.iterdir()) == [target]


def test_names_with_spaces_and_chinese_letters(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    there = tmp_path / "适配器 一号"
    shutil.copytree(adapter, there / "my adapter")
    shutil.copytree(tiny_model, there / "基座 模型")
    run = merge(tmp_path / "运行 1", there / "my adapter", model_name_or_path=str(there / "基座 模型"))
    assert digests(run.run_dir / "model") == digests(merge(tmp_path / "plain", adapter).run_dir / "model")


def test_a_model_in_the_way_is_replaced_only_when_asked(adapter: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    merge(tmp_path / "one", adapter, export_dir=str(target))
    (target / "README.md").write_text("mine")
    with pytest.raises(ModelError, match=r"target exists: .* set overwrite_output_dir: true"):
        merge(tmp_path / "two", adapter, export_dir=str(target))
    assert (target / "README.md").read_text() == "mine"
    merge(tmp_path / "three", adapter, export_dir=str(target), overwrite_output_dir=True, export_dtype="float32")
    assert models.check(target).dtype == "F32"
    assert not (target / "README.md").exists()


@pytest.mark.parametrize("kind", ["a home", "a folder with more", "a link", "a file"])
def test_only_a_model_folder_is_ever_replaced(adapter: Path, tiny_model: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "a file":
        target.write_text("letter")
    elif kind == "a link":
        target.symlink_to(tiny_model)
    else:
        target.mkdir()
        (target / "letter.txt").write_text("dear")
    if kind == "a folder with more":
        shutil.copytree(tiny_model, target, dirs_exist_ok=True)
        (target / "photos").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=r"is no model folder, so it is not replaced|which is merged"):
        merge(tmp_path / "run", adapter, export_dir=str(target), overwrite_output_dir=True)
    assert [path for path in sorted(tmp_path.rglob("*")) if "run" not in path.parts[-2:]] == before
    assert models.check(tiny_model)


def test_a_target_that_cannot_be_written(adapter: Path, disk: Disk, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    with pytest.raises(ModelError, match=r"cannot be written.*choose"):
        merge(tmp_path / "run", adapter, export_dir=str(disk.path / "merged"))


def test_quarantine_of_a_model_on_another_disk_stays_there(adapter: Path, disk: Disk, tmp_path: Path) -> None:
    draft = disk.path / ".merged.run-1.unfinished"
    draft.mkdir()
    (draft / "config.json").write_text("{}")
    (tmp_path / "run").mkdir()
    kept = place.quarantine(draft, tmp_path / "run")
    assert kept == disk.path / "merged.run-1.quarantine"
    assert (kept / "config.json").exists()
    assert not draft.exists()


def test_leftovers_of_a_killed_merge_are_cleared_and_those_of_a_living_one_are_not(
    adapter: Path, tmp_path: Path
) -> None:
    dead, alive = (tmp_path / f".target.{name}" for name in ("1.unfinished", "2.unfinished"))
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    held = os.open(alive, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    merge(tmp_path / "run", adapter, export_dir=str(tmp_path / "target"))
    os.close(held)
    assert not dead.exists()
    assert alive.exists()


def test_what_a_killed_merge_was_replacing_gets_its_name_back(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Killed after the old model was put aside and before the new one had its name."""
    old, target = tmp_path / ".target.1.unfinished.old", tmp_path / "target"
    shutil.copytree(tiny_model, old)
    with pytest.raises(ModelError, match="target"):
        merge(tmp_path / "run", adapter, export_dir=str(target))
    assert not old.exists()
    assert (target / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    old.mkdir()
    merge(tmp_path / "again", adapter, export_dir=str(target), overwrite_output_dir=True)
    assert not old.exists()
    assert (target / "model.safetensors").read_bytes() != (tiny_model / "model.safetensors").read_bytes()


def test_a_base_in_the_layout_of_the_hubs_cache(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--sprout--tiny"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in tiny_model.iterdir():
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    run = merge(tmp_path / "run", adapter, model_name_or_path=str(snapshot))
    made = run.run_dir / "model"
    assert not any(path.is_symlink() for path in made.iterdir())
    assert digests(made) == digests(merge(tmp_path / "plain", adapter).run_dir / "model")


def test_a_named_template_fills_the_gap(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    bare, base = (shutil.copytree(path, tmp_path / path.name) for path in (adapter, tiny_model))
    (bare / "chat_template.jinja").unlink()
    (base / "chat_template.jinja").unlink()
    keys = {"model_name_or_path": str(base), "template": "qwen3"}
    run = merge(tmp_path / "run", bare, **keys)
    assert "<|im_start|>" in str(models.chat_template(run.run_dir / "model"))
    kept = merge(tmp_path / "kept", adapter, **keys).run_dir / "model"
    assert models.chat_template(kept) == models.chat_template(adapter)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> tuple[Path, Path]:
    """A model of 250 MB and its adapter: a merge that takes long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("heavy")
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 7}
    model = make_model(folder / "model", tokenizer_dir, **sizes)
    return model, make_adapter(folder / "adapter", model, target_modules=ALL)


def under_way(worker: Worker) -> bool:
    return any((worker.run_dir / "tmp/model").glob("*.safetensors"))


def test_a_stop_leaves_nothing_behind(start: Start, heavy: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "target"
    worker = start("merge", adapter_name_or_path=str(heavy[1]), export_dir=str(target))
    worker.until(lambda: any(tmp_path.glob(".target.*.unfinished/*.safetensors")))
    started = time.monotonic()
    (worker.run_dir / "STOP").touch()
    assert worker.wait() == STOPPED, worker.log
    assert time.monotonic() - started < 2
    left = {path.name for path in worker.run_dir.iterdir()}
    assert left == {"config.yaml", "log.txt", "status.json", "STOP"}
    assert not list(tmp_path.glob("*target*"))


def test_too_little_room_is_seen_before_anything_is_written(disk: Disk, heavy: tuple[Path, Path]) -> None:
    with pytest.raises(DiskFull, match="GB left: free some"):
        merge(disk.path / "run", heavy[1])


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    disk: Disk, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "SPARE_BYTES", -(10**9))
    (disk.path / "run").mkdir()
    disk.fill(leave_bytes=200_000)
    with pytest.raises(DiskFull, match=r"no room to write .*/run/model: free some disk space"):
        merge(disk.path / "run", adapter, export_dtype="float32")
    assert not (disk.path / "run/model").exists()
    assert not any((disk.path / "run/tmp").iterdir())


@dataclass
class Nursery:
    """Merges, one after another, that can be killed."""

    process: subprocess.Popen[str]

    def begin(self, run_dir: Path) -> int:
        """Start a merge in `run_dir`; its process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{run_dir}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> None:
        """Until that process is gone."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "-\n"


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.merging.nursery"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield Nursery(process)
    process.kill()
    process.wait()


def request(run_dir: Path, adapter: Path, **keys: Any) -> Path:
    wanted = {"adapter_name_or_path": str(adapter), "verify": False, **keys}
    write_config(run_dir, "merge", adapter, adapter, wanted)
    return run_dir


def test_killed_at_any_moment_no_half_result_looks_whole(nursery: Nursery, adapter: Path, tmp_path: Path) -> None:
    """Half of them write to a folder outside the run. What was killed can be merged again."""
    nursery.begin(request(tmp_path / "first", adapter))
    nursery.wait()
    started = time.monotonic()
    nursery.begin(request(tmp_path / "whole", adapter))
    nursery.wait()
    duration_s = time.monotonic() - started
    wanted = digests(tmp_path / "whole/model")
    chance = random.Random(7)
    gone = []
    for number in range(KILLS):
        target = tmp_path / "targets" / str(number)
        outside = {"export_dir": str(target)} if number % 2 else {}
        run_dir = request(tmp_path / f"run-{number}", adapter, **outside)
        child = nursery.begin(run_dir)
        time.sleep(chance.uniform(0, duration_s))
        os.kill(child, signal.SIGKILL)
        nursery.wait()
        made = target if number % 2 else run_dir / "model"
        if made.exists():
            assert digests(made) == wanted
        else:
            assert not (run_dir / "result.json").exists()
            gone.append((run_dir, made))
    assert KILLS / 10 < len(gone) <= KILLS
    for run_dir, made in gone[-6:]:
        nursery.begin(run_dir)
        nursery.wait()
        assert digests(made) == wanted
        assert json.loads((run_dir / "result.json").read_text())["output"] == "model"
        assert not list(made.parent.glob(f".{made.name}.*"))
