"""The worker of a data run: python -m studio.worker.data RUN_DIR

The work itself is in studio.datasets.actions, but for statistics: only they load a tokenizer.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from studio.config.data import DataConfig
from studio.config.load import load_run_config
from studio.datasets import actions
from studio.datasets.actions import Figures, Work
from studio.datasets.pace import Asked, Progress
from studio.datasets.registry import Registry
from studio.errors import Cancelled
from studio.worker.door import Desk, leave, serve


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


def _work(desk: Desk) -> bool:
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, DataConfig)
    desk.requests.protect()  # what was half written is cleaned up by who writes it
    desk.reporter.phase(config.title)
    try:
        hooks = Hooks(desk, time.monotonic())
        figures = ACTIONS[config.action](config, Registry(Path(config.dataset_dir)), hooks.progress, hooks.cancelled)
    except Cancelled:
        return True
    desk.reporter.result(action=config.action, **figures)
    return False


def _statistics(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    from studio.worker import statistics, tokenizer  # which take a second to import

    tokenizer.without_torch()
    measured = statistics.measure(config, registry, progress, cancelled)
    return {"rows": measured.rows_measured}


ACTIONS: dict[str, Work] = {**actions.ACTIONS, "statistics": _statistics}


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
