"""The worker of a merge run: python -m studio.worker.merge RUN_DIR

Only what is light is imported here; the merge itself is in merging/.
"""

from __future__ import annotations

import sys
from pathlib import Path

from studio.worker import imports
from studio.worker.door import Desk, leave, serve


def main(run_dir: Path) -> int:
    """Merge as config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    desk.reporter.phase("starting", "loading libraries")
    imports.trim(needed=("bitsandbytes",))  # which rounds a base as a training on 4 or 8 bits did
    from studio.worker.merging import ahead

    ahead.begin(desk.run_dir)
    from studio.worker.merging import flow

    imports.settle()
    flow.merge(desk)
    return False


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
