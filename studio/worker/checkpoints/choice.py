"""The checkpoint that a training goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from studio.config.train import TrainConfig
from studio.errors import NotResumable
from studio.runs import checkpoints, events
from studio.runs.checkpoints import Manifest
from studio.runs.run import Run
from studio.worker.checkpoints.identity import fingerprints
from studio.worker.door import Desk


def choose(desk: Desk, config: TrainConfig) -> Path | None:
    """The one asked for, or the newest whole one before it; None for a training from the beginning.

    The first process reads every byte of it; the others take its word.

    Raises:
        NotResumable: none is whole.
    """
    if desk.rank.is_first:
        shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    if config.resume_from_checkpoint is None:
        return None
    damaged: list[str] = []
    for folder in reversed(Run(desk.run_dir).checkpoints()):
        with desk.consensus.together():
            problems = _flaws(desk, folder) if desk.rank.is_first else []
        if not desk.consensus.any(bool(problems)):
            _pass_over(desk, damaged, folder)
            return folder
        damaged.append(f"{folder.name} is damaged ({'; '.join(problems)})")
    wanted = desk.run_dir / config.resume_from_checkpoint
    raise NotResumable(f"{wanted} cannot be resumed, and there is no other: {'; '.join(damaged) or 'it is missing'}")


def compare(desk: Desk, checkpoint: Path | None, files: Mapping[str, tuple[Path, ...]]) -> None:
    """Say which of the datasets, in `files`, are not as they were when `checkpoint` was written."""
    manifest = Manifest.read(checkpoint) if checkpoint and desk.rank.is_first else None
    if manifest is None:
        return
    now = fingerprints(files)
    if other := sorted(name for name in now if name in manifest.data and now[name] != manifest.data[name]):
        desk.reporter.note(
            "warning",
            f"what is made of the dataset {', '.join(other)} is not as it was at step {manifest.step}: the place in "
            "the data is kept by number, so rows may be seen again and others never",
        )


def _pass_over(desk: Desk, damaged: list[str], chosen: Path) -> None:
    """Say which were, and cut the curves that came along with the run off where `chosen` ends."""
    if not (damaged and desk.rank.is_first):
        return
    metrics, step = Run(desk.run_dir).metrics, int(chosen.name.rpartition("-")[2])
    events.write(metrics, events.until(events.read(metrics)[0], step))
    for text in damaged:
        desk.reporter.note("warning", f"{text} and passed over: the training goes on from {chosen.name}")


def _flaws(desk: Desk, folder: Path) -> list[str]:
    desk.reporter.phase("verifying", folder.name)

    def progress(done: int, total: int) -> None:
        desk.reporter.progress(f"{folder.name}: {done / max(total, 1):.0%}")

    return checkpoints.verify(folder, deep=True, progress=progress)
