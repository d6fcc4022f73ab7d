"""Merges that are quick to start, so that many can be killed: python -m tests.worker.merging.nursery

Imports once. Then each line is a run directory: a process forks off that merges there, and its number is printed. The
next line, an empty one, has it waited for; until then its number stays its own, and a "-" is printed when it is gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from studio.worker.door import Desk, serve
from studio.worker.merging import flow


def _work(desk: Desk) -> bool:
    flow.merge(desk)
    return False


def main() -> None:
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            os.setsid()
            print(os.getpid(), flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(serve(Path(line.strip()), _work))
        sys.stdin.readline()
        os.waitpid(child, 0)
        print("-", flush=True)


if __name__ == "__main__":
    main()
