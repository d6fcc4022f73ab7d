"""All runs: create, list, find, resume, throw away. The folder is the database."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.config.load import RunConfig, dump, save
from studio.config.train.saving import Scope
from studio.errors import ConfigError, PathError, RunError, RunNotFound
from studio.files import inside, safe_name
from studio.runs import checkpoints, events, resumption
from studio.runs.run import Run, newest_first

KEPT_DATA_RUNS = 40


@dataclass(frozen=True)
class Store:
    """The runs below `saves`."""

    saves: Path

    @property
    def trash_dir(self) -> Path:
        return self.saves / ".trash"

    def create(self, config: RunConfig) -> Run:
        """A new run directory that holds its request. It does not start."""
        if config.kind == "data":
            self._forget_data_runs()
        return self._create(config, lambda draft: None)

    def list(self, kind: str | None = None) -> list[Run]:
        """Every run, newest first. Folders that are no runs are passed over."""
        return [run for run in newest_first(self._runs()) if kind is None or run.kind == kind]

    def get(self, run_id: str) -> Run:
        """The run of that id, or of the only id that begins so.

        Raises:
            RunNotFound: there is none, or more than one.
        """
        try:
            path = inside(self.saves, run_id)
        except PathError as error:
            raise RunNotFound(str(error)) from error
        if path.parent == self.saves.resolve() and _is_run(path):
            return Run(path)
        found = [run for run in self._runs() if run.id.startswith(run_id)]
        if len(found) == 1:
            return found[0]
        what = "is the beginning of several runs" if found else "is not a run"
        raise RunNotFound(f"{run_id!r} {what} in {self.saves}; `python -m studio runs` lists them")

    def twin(self, config: RunConfig, within_s: float) -> Run | None:
        """A run with the very same request created a moment ago: the other half of a double click."""
        text, since = dump(config), time.time() - within_s
        return next((run for run in self._runs() if _requested_since(run, since) and _says(run, text)), None)

    def resume(self, run: Run, step: int | None = None, scope: Scope = "all", **changes: Any) -> Run:
        """A new run that goes on from a checkpoint of `run`, its curves included; see `resumption.judge`.

        The checkpoints before that one come along, for the case that it turns out to be damaged.

        Raises:
            NotResumable: it still runs, is no training, has no checkpoint, or cannot go on so.
            ConfigError: `changes` do not make a configuration.
        """
        found = resumption.judge(run, step, scope, **changes)

        def inherit(draft: Path) -> None:
            for checkpoint in checkpoints.listed(run):
                if checkpoint.is_complete and checkpoint.step <= found.step:
                    path = checkpoint.path
                    shutil.copytree(path, draft / path.relative_to(run.path), copy_function=_link)
            _copy_metrics(run, Run(draft), until_step=found.step)

        return self._create(found.config, inherit)

    def trash(self, run: Run) -> Path:
        """Move an ended run to the trash. `restore` undoes it.

        Raises:
            RunError: it is still active.
        """
        if run.is_active:
            raise RunError(f"{run.id} is {run.state}: stop it before deleting it")
        self.trash_dir.mkdir(exist_ok=True)
        return run.path.rename(self.trash_dir / run.id)

    def restore(self, run_id: str) -> Run:
        """Bring a run back from the trash.

        Raises:
            RunNotFound: it is not there.
        """
        trashed = next((run for run in self.trashed() if run.id == run_id), None)
        if trashed is None:
            raise RunNotFound(f"{run_id!r} is not in the trash")
        return Run(trashed.path.rename(self.saves.resolve() / run_id))

    def trashed(self) -> tuple[Run, ...]:
        """Runs in the trash, newest first."""
        return tuple(newest_first(Store(self.trash_dir)._runs()))

    def _forget_data_runs(self) -> None:
        """What work on datasets leaves is in the data folder; only the last runs are kept to be looked at."""
        ended = [run for run in self.list("data") if not run.is_active]
        for run in ended[KEPT_DATA_RUNS - 1 :]:
            shutil.rmtree(run.path, ignore_errors=True)

    def _create(self, config: RunConfig, fill: Callable[[Path], None]) -> Run:
        """Complete before it has its name: a lister must never meet a run without its config or its checkpoint."""
        self.saves.mkdir(parents=True, exist_ok=True)
        run = Run(self.saves.resolve() / _new_id(config.title))
        draft = run.path.with_name(f".{run.id}")
        draft.mkdir()
        try:
            save(config, draft / "config.yaml")
            fill(draft)
            draft.rename(run.path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return run

    def _runs(self) -> Iterator[Run]:
        root = self.saves.resolve()
        return (Run(path) for path in root.iterdir() if _is_run(path)) if root.is_dir() else iter(())


def _is_run(path: Path) -> bool:
    """A link is no run: what lies behind it is not ours to move or delete."""
    return not path.name.startswith(".") and not path.is_symlink() and (path / "config.yaml").exists()


def _new_id(name: str | None) -> str:
    """Sortable by time, unique, readable: 20261122-013055-9f2c1a-identity."""
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return f"{stamp}-{safe_name(name)[:40].replace(' ', '-')}" if name else stamp


def _requested_since(run: Run, at: float) -> bool:
    """config.yaml is never rewritten; the folder's own times change with every file in it."""
    try:
        return (run.path / "config.yaml").stat().st_mtime > at
    except FileNotFoundError:
        return False


def _says(run: Run, text: str) -> bool:
    try:
        return dump(run.config) == text
    except ConfigError:
        return False


def _link(source: str, target: str) -> None:
    """Checkpoints are never edited, so a second name costs no disk; another file system needs a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy_metrics(old: Run, new: Run, until_step: int) -> None:
    known, _ = events.read(old.metrics)
    events.write(new.metrics, [event for event in events.until(known, until_step) if event.get("type") != "note"])
