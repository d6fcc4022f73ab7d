"""Checkpoints as files: what each holds, and whether it is whole.

The manifest of a checkpoint is written last and names all its other files with their sizes and hashes: without a file
of it, or with one that is not as it was, a checkpoint is no good. Checkpoints of older versions have no manifest and
are judged by the files that no resume can do without.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from studio.errors import Cancelled, ModelError
from studio.files import folder_bytes, read_json, read_record, write_json
from studio.models import read_header
from studio.runs.run import Run

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
LEGACY_STRATEGY = "single"  # checkpoints without a manifest are of versions that knew no other
BLOCK_BYTES = 4_000_000
THREADS = min(8, max(1, (os.cpu_count() or 2) // 2))  # a training may go on beside them

Progress = Callable[[int, int], None]
Asked = Callable[[], bool]


@dataclass(frozen=True)
class File:
    """A file as it was written: `sha256` in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is.

    `files` by their names inside the folder. `batch` is how many rows made a step, over all `world_size` processes.
    `data` are fingerprints of the datasets by their names. `created` in unix seconds. The learning rate follows a
    schedule that began at step `schedule_from`.
    """

    step: int
    tokens: int
    world_size: int
    strategy: str
    batch: int
    weights_only: bool
    versions: Mapping[str, str]
    data: Mapping[str, str]
    created: float
    files: Mapping[str, File]
    schedule_from: int = 0

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """That of the checkpoint `folder`; None where it has none.

        Raises:
            ValueError: there is one that cannot be read.
        """
        values = read_json(folder / MANIFEST)
        if values is None:
            return None
        try:
            files = {name: File(**file) for name, file in values["files"].items()}
            return cls(**{**values, "files": files})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder / MANIFEST} does not say what a manifest does ({error})") from error

    def write(self, folder: Path) -> None:
        """Into the checkpoint `folder`, which is complete with it."""
        write_json(folder / MANIFEST, asdict(self))

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files.values())


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run, as lists show it.

    `problem` says what is wrong with it as far as sizes tell; empty for a whole one. `manifest` is None for one of an
    older version. `is_best`: of the best validation so far.
    """

    step: int
    path: Path
    bytes: int
    at: float
    problem: str
    is_best: bool
    manifest: Manifest | None

    @property
    def is_complete(self) -> bool:
        return not self.problem


def listed(run: Run) -> list[Checkpoint]:
    """All checkpoints of a run, oldest first, damaged ones too."""
    paths = run.checkpoints()
    best = read_record(paths[-1] / STATE).get("best_global_step") if paths else None
    return [_seen(path, best) for path in paths]


def verify(
    folder: Path,
    deep: bool = False,
    progress: Progress = lambda done, total: None,
    cancelled: Asked = lambda: False,
) -> list[str]:
    """What is wrong with the checkpoint `folder`, a sentence for each file; nothing for a whole one.

    Sizes are compared, and if `deep` contents too, which reads all of it: `progress` is told the bytes done and all
    bytes, from several threads. Of a checkpoint without a manifest only the form of its files can be judged.

    Raises:
        Cancelled: `cancelled` answered yes.
    """
    try:
        manifest = Manifest.read(folder)
    except (ValueError, OSError) as error:
        return [str(error)]
    if manifest is None:
        return list(_flaws_of_old(folder))
    problems = {name: flaw for name, file in manifest.files.items() if (flaw := _flaw(folder / name, file))}
    if deep:
        whole = [name for name in manifest.files if name not in problems]
        found = hashes(folder, whole, progress, cancelled)
        altered = [name for name in whole if found[name] != manifest.files[name].sha256]
        problems |= {name: "was altered: its contents are not those that were written" for name in altered}
    return [f"{name} {problem}" for name, problem in problems.items()]


def hashes(
    folder: Path,
    names: Iterable[str],
    progress: Progress = lambda done, total: None,
    cancelled: Asked = lambda: False,
) -> dict[str, str]:
    """The SHA-256 of files in `folder`, several at a time.

    Raises:
        Cancelled: `cancelled` answered yes.
        OSError: a file cannot be read.
    """
    # the largest first: the last thread should not begin the longest file when the others are done
    sizes = {name: (folder / name).stat().st_size for name in names}
    order = sorted(sizes, key=lambda name: sizes[name], reverse=True)
    meter = _Meter(sum(sizes.values()), progress, cancelled)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(order, pool.map(partial(_hash, folder, meter), order), strict=True))


def files_of(folder: Path) -> list[str]:
    """The names of all files below `folder` but the manifest, as manifests write them."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


class _Meter:
    """Adds up what several threads have read."""

    def __init__(self, total: int, progress: Progress, cancelled: Asked) -> None:
        self._total, self._progress, self._cancelled = total, progress, cancelled
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        if self._cancelled():
            raise Cancelled("the verification was stopped")
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


def _hash(folder: Path, meter: _Meter, name: str) -> str:
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK_BYTES))
    with open(folder / name, "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
            meter.add(count)
    return digest.hexdigest()


def _flaw(path: Path, file: File) -> str:
    try:
        found = path.stat().st_size
    except OSError as error:
        return f"cannot be read ({error.strerror})" if path.exists() else "is missing"
    return "" if found == file.bytes else f"has {found:,} bytes of {file.bytes:,}"


def _flaws_of_old(folder: Path) -> Iterable[str]:
    try:
        if "global_step" not in (read_json(folder / STATE) or {}):
            yield f"{STATE} is missing or says no step"
        weights = sorted(folder.glob("*.safetensors"))
        for path in weights:
            read_header(path)
    except (ValueError, ModelError, OSError) as error:
        yield str(error)
        return
    if not weights:
        yield "the weights are missing"
    for name in ("optimizer.pt", "scheduler.pt"):
        if not zipfile.is_zipfile(folder / name):
            yield f"{name} is missing or incomplete"


def _seen(path: Path, best: Any) -> Checkpoint:
    problems = verify(path)
    try:
        manifest = Manifest.read(path)
    except (ValueError, OSError):
        manifest = None
    step = int(path.name.rpartition("-")[2])
    at = manifest.created if manifest else path.stat().st_mtime
    size = manifest.bytes if manifest else folder_bytes(path)
    return Checkpoint(step, path, size, at, "; ".join(problems), step == best, manifest)
