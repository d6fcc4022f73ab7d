"""The worker of a consolidation: python -m studio.worker.consolidate RUN_DIR

Only what is light is imported here; the work is in consolidation.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from studio.worker import imports
from studio.worker.door import Desk, leave, serve


def main(run_dir: Path) -> int:
    """Do as config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    desk.reporter.phase("starting", "loading libraries")
    imports.trim({"deepspeed"})
    from studio.worker import consolidation

    imports.settle()
    consolidation.consolidate(desk)
    return False


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
