"""The base's weights are read into the page cache while torch is imported, when the disk has nothing else to do."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from studio import models
from studio.config.load import load_run_config
from studio.config.merge import MergeConfig
from studio.errors import SeedbedError
from studio.runs import outputs
from studio.runs.store import Store

FREE_SHARE = 0.25  # of the memory that is free: what is read ahead must still be there when it is wanted


def begin(run_dir: Path) -> None:
    """Start reading what the merge in `run_dir` will read first. What is wrong with it is for the merge to say."""
    with suppress(SeedbedError, OSError):
        config = load_run_config(run_dir / "config.yaml")
        assert isinstance(config, MergeConfig)
        folder = _base(config, Store(run_dir.parent))
        paths = [folder / name for name in models.weight_files(folder)] if folder else []
        threading.Thread(target=_read, args=(paths,), name="ahead", daemon=True).start()


def _base(config: MergeConfig, store: Store) -> Path | None:
    first = config.adapter_name_or_path[0]
    return models.folder_of(config.model_name_or_path or outputs.adapter_of(store, first, any_kind=True).base)


def _read(paths: list[Path]) -> None:
    room = int(FREE_SHARE * psutil.virtual_memory().available)
    for path in paths:
        with suppress(OSError), open(path, "rb") as file:
            size = min(room, os.fstat(file.fileno()).st_size)
            os.posix_fadvise(file.fileno(), 0, size, os.POSIX_FADV_WILLNEED)
            room -= size
