"""Bringing a checkpoint that was written to its place, beside the training.

The trainer writes into a draft, which the kernel holds in memory. That the bytes reach the disk, their hashes, the
manifest and the name are the work of a thread, so that the next step need not wait for the disk. Nothing looks whole
before it is: the name comes last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from studio import packages
from studio.config.train import TrainConfig
from studio.runs import checkpoints, events
from studio.runs.checkpoints import File, Manifest
from studio.runs.run import Run
from studio.worker import outputs
from studio.worker.door import Desk

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "trl", "deepspeed")
MINUTE_S = 60
MEMORY_SHARE = 3  # a copy may take a third of what memory is free


class Keeper:
    """Of the checkpoints of one run, in its first process.

    `data` gives the fingerprints of the datasets; the thread asks it at once, for prepared rows may be cleared away
    while the training goes on. `kept` is called with the name of each checkpoint that has its place. `size`: the bytes
    that the first one is expected to take; 0 has it tried.
    """

    def __init__(
        self,
        desk: Desk,
        config: TrainConfig,
        data: Callable[[], Mapping[str, str]],
        kept: Callable[[str], None],
        size: int = 0,
    ) -> None:
        self._desk, self._config, self._kept = desk, config, kept
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._data = self._thread.submit(data)
        self._pending: Future[None] | None = None
        self._writing: Callable[[], None] | None = None
        self._size = size
        self._begun = time.monotonic()

    def remind(self) -> None:
        """Ask for a checkpoint where save_minutes have passed since the last one."""
        minutes = self._config.save_minutes
        if minutes and time.monotonic() - self._begun >= minutes * MINUTE_S:
            self._begun = time.monotonic()
            self._desk.requests.save()

    def begin(self, draft: Path) -> None:
        """An empty folder for another, once the last one has its place.

        Raises:
            DiskFull: there is less room than that one took, or the first one is expected to take.
        """
        self.wait()
        self._begun, self._writing = time.monotonic(), None
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if shutil.disk_usage(draft).free < self._size:
            raise outputs.DiskFull(f"a checkpoint takes {self._size:,} bytes: as much is not free for {draft}")

    def later(self, states: Any, path: Path) -> None:
        """Write `states` to a file of the draft beside the training: a copy of them, or now if memory is short."""
        tensors = [leaf for leaf in tree_leaves(states) if isinstance(leaf, torch.Tensor)]
        size = sum(tensor.nbytes for tensor in tensors)
        if psutil.virtual_memory().available < MEMORY_SHARE * size:
            torch.save(states, path)
            return
        copied = tree_map_only(torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), states)
        self._writing = partial(torch.save, copied, path)

    def finish(self, draft: Path, facts: Manifest, spared: Path | None) -> None:
        """Take over a draft that all processes have written; `facts` lack what is found out here: files and data."""
        self._pending = self._thread.submit(self._finish, draft, facts, spared)

    def give_up(self, draft: Path) -> None:
        """There was no room for `draft`."""
        shutil.rmtree(draft, ignore_errors=True)
        kept = next((f"checkpoints/{path.name}" for path in reversed(self._run.checkpoints())), "none so far")
        text = f"no room to write {self._place(draft)}: free some disk space"
        self._desk.reporter.note("warning", f"{text}. The training goes on; last checkpoint: {kept}")

    def wait(self) -> None:
        """Until the last one has its place, or could not be brought there.

        Raises:
            OSError: it could not be, and not for want of room.
        """
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    @property
    def _run(self) -> Run:
        return Run(self._desk.run_dir)

    def _place(self, draft: Path) -> Path:
        return self._desk.run_dir / "checkpoints" / draft.name

    def _finish(self, draft: Path, facts: Manifest, spared: Path | None) -> None:
        place = self._place(draft)
        try:
            with outputs.draft_at(place, draft):
                self._write()
                digests = checkpoints.hashes(draft, checkpoints.files_of(draft))
                files = {name: File((draft / name).stat().st_size, digests[name]) for name in sorted(digests)}
                manifest = replace(facts, files=files, data=self._data.result())
                manifest.write(draft)
        except outputs.DiskFull:
            self.give_up(draft)
            return
        self._size = manifest.bytes
        self._kept(f"checkpoints/{place.name}")
        self._rotate(spared)
        self._desk.reporter.event(events.Checkpoint(facts.step, f"checkpoints/{place.name}", at=time.time()))

    def _write(self) -> None:
        writing, self._writing = self._writing, None
        if writing:
            writing()

    def _rotate(self, spared: Path | None) -> None:
        """Delete all but the newest and `spared`, each in one step: out of sight first, then gone."""
        for path in self._run.checkpoints()[: -self._config.save_total_limit]:
            if path == spared:
                continue
            doomed = self._desk.run_dir / "tmp" / f"old-{path.name}"
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def facts(desk: Desk, config: TrainConfig, step: int, tokens: int, schedule_from: int) -> Manifest:
    """What is known of a checkpoint before its files are looked at."""
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return Manifest(
        step=step,
        tokens=tokens,
        world_size=desk.rank.world,
        strategy=config.parallel_strategy,
        batch=rows * desk.rank.world,
        weights_only=config.save_only_model,
        versions=_versions(),
        data={},
        created=time.time(),
        files={},
        schedule_from=schedule_from,
    )


def _versions() -> dict[str, str]:
    """Of the libraries that have a part in the training."""
    return {name: metadata.version(name) for name in LIBRARIES if packages.is_installed(name)}
