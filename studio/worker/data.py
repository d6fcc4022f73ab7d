"""The worker of a data run: python -m studio.worker.data RUN_DIR

Checks, statistics and new datasets made from old ones. Only statistics load a tokenizer, and nothing here loads torch
before that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.config.data import DataConfig
from studio.config.load import load_run_config
from studio.datasets import checks, operations
from studio.datasets.entry import Entry
from studio.datasets.index import save
from studio.datasets.loading import Fault
from studio.datasets.registry import Registry
from studio.errors import Cancelled
from studio.worker.door import Desk, leave, serve

Figures = dict[str, Any]


def main(run_dir: Path) -> int:
    """Do what config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


@dataclass(frozen=True)
class Hooks:
    """How long work tells how far it is, and learns that it was asked to stop."""

    desk: Desk
    started: float

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` bytes or rows."""
        elapsed = time.monotonic() - self.started
        eta_s = elapsed / done * (total - done) if done else None
        self.desk.reporter.step(done, total, eta_s, f"{done / total:.0%}" if total else "")

    def cancelled(self) -> bool:
        """Whether the run has been asked to stop."""
        return self.desk.requests.stop

    @property
    def both(self) -> dict[str, Any]:
        """As the keyword arguments that all long work takes."""
        return {"progress": self.progress, "cancelled": self.cancelled}


def _work(desk: Desk) -> bool:
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, DataConfig)
    desk.requests.protect()  # what was half written is cleaned up by who writes it
    desk.reporter.phase(config.title)
    try:
        figures = ACTIONS[config.action](config, Registry(Path(config.dataset_dir)), Hooks(desk, time.monotonic()))
    except Cancelled:
        return True
    desk.reporter.result(action=config.action, **figures)
    return False


def _check(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    (name,) = config.dataset
    path, entry = registry.file(name), registry.entry(name)
    report, index = checks.survey(
        path,
        entry,
        near_duplicates=config.near_duplicates,
        threshold=config.near_duplicate_threshold,
        progress=hooks.progress,
        cancelled=hooks.cancelled,
    )
    checks.keep(path, entry, report, registry.cache_dir)
    save(path, index, registry.cache_dir)
    return {"rows": report.rows, "usable": report.usable, "findings": len(report.findings)}


def _statistics(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    from studio.worker import statistics  # a tokenizer takes a second to import

    measured = statistics.measure(config, registry, hooks.progress, hooks.cancelled)
    return {"rows": measured.rows_measured}


def _repair(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    made, counts = checks.repair(
        registry,
        config.dataset[0],
        config.repairs,
        config.output_name,
        threshold=config.near_duplicate_threshold,
        **hooks.both,
    )
    return {"datasets": [made.name], "summary": ", ".join(f"{name} {count:,} rows" for name, count in counts.items())}


def _duplicate(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    return _made(operations.duplicate(registry, config.dataset[0], config.output_name, **hooks.both))


def _deduplicate(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    return _made(operations.deduplicate(registry, config.dataset[0], config.output_name, **hooks.both))


def _split(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    (name,) = config.dataset
    parts = operations.split(
        registry, name, config.fraction, config.column, config.seed, config.output_name, **hooks.both
    )
    return _made(parts)


def _merge(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    return _made(operations.merge(registry, config.dataset, output_name=config.output_name, **hooks.both))


def _shuffle(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    return _made(operations.shuffle(registry, config.dataset[0], config.seed, config.output_name, **hooks.both))


def _sample(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    (name,) = config.dataset
    drawn = operations.sample(
        registry, name, config.rows, config.fraction, config.seed, config.output_name, **hooks.both
    )
    return _made(drawn)


def _convert(config: DataConfig, registry: Registry, hooks: Hooks) -> Figures:
    left_out: list[Fault] = []
    made = operations.convert(
        registry,
        config.dataset[0],
        config.shape,
        config.file_format,
        config.output_name,
        leave_out=left_out.append,
        **hooks.both,
    )
    if not left_out:
        return _made(made)
    first = left_out[0]
    return {**_made(made), "summary": f"{len(left_out):,} rows left out; the first: row {first.row}, {first.what}"}


def _made(entries: Sequence[Entry]) -> Figures:
    return {"datasets": [entry.name for entry in entries]}


ACTIONS: dict[str, Callable[[DataConfig, Registry, Hooks], Figures]] = {
    "check": _check,
    "statistics": _statistics,
    "repair": _repair,
    "duplicate": _duplicate,
    "deduplicate": _deduplicate,
    "split": _split,
    "merge": _merge,
    "shuffle": _shuffle,
    "sample": _sample,
    "convert": _convert,
}


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
