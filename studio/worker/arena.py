"""The worker of an arena: python -m studio.worker.arena RUN_DIR

The work itself is in studio.arena. Every answer is on disk when it is there, so a stop needs no preparation.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from studio.arena import bout
from studio.arena.battles import Arena
from studio.datasets.registry import Registry
from studio.runs.run import Run
from studio.runs.store import Store
from studio.worker.door import Desk, leave, serve


def main(run_dir: Path) -> int:
    """Play what config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    arena = Arena.of(Run(desk.run_dir))
    registry = Registry(Path(arena.config.dataset_dir))
    figures = asyncio.run(bout.play(Store(desk.run_dir.parent), registry, arena, desk.reporter))
    desk.reporter.result(**figures)
    return False


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
