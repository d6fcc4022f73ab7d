"""The worker of a benchmark: python -m studio.worker.bench RUN_DIR

The measuring itself is in studio.serving.benchmark; torch is in the processes that are measured.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from studio.config.bench import BenchConfig
from studio.config.load import load_run_config
from studio.serving.benchmark import course
from studio.worker.door import Desk, leave, serve

STOP_POLL_S = 0.1


def main(run_dir: Path) -> int:
    """Measure what config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, lambda desk: asyncio.run(_work(desk)))


async def _work(desk: Desk) -> bool:
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, BenchConfig)
    desk.requests.protect()  # what was measured so far is kept, and the server that is up is ended
    desk.reporter.phase("measuring")
    measuring = asyncio.create_task(course.run(config, desk.run_dir, desk.reporter.step))
    while not measuring.done() and not desk.requests.stop:
        await asyncio.wait((measuring,), timeout=STOP_POLL_S)
    if not measuring.done():
        measuring.cancel()
        await asyncio.wait((measuring,))
        return True
    desk.reporter.result(**measuring.result())
    return False


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
