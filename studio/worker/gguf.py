"""The worker of a conversion to GGUF: python -m studio.worker.gguf RUN_DIR

Only what is light is imported here; the work is in llama/export.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from studio.worker import imports
from studio.worker.door import Desk, leave, serve


def main(run_dir: Path) -> int:
    """Convert as config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    desk.reporter.phase("starting", "loading libraries")
    imports.trim()
    from studio.worker.llama import export

    imports.settle()
    export.export(desk)
    return False


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
