"""The processes of one training, forked from this one, as torchrun's agent starts them; without its imports.

As a program: python -m tests.worker.world RUN_DIR PROCESSES
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from studio.worker import imports

imports.trim({"deepspeed"})
import deepspeed  # noqa: E402, F401

from studio.worker import training  # noqa: E402, F401
from studio.worker.train import main  # noqa: E402

imports.settle()


def train(run_dir: Path, processes: int) -> int:
    """Train to the end; the worst exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [_fork(run_dir, rank, processes, port) for rank in range(processes)]
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def _fork(run_dir: Path, rank: int, world: int, port: int) -> int:
    if child := os.fork():
        return child
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    place = {"GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in {**numbers, **place}.items()})
    folder = run_dir / "ranks" / str(rank)
    folder.mkdir(parents=True, exist_ok=True)
    if rank:
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
    os._exit(main(run_dir))


if __name__ == "__main__":
    sys.exit(train(Path(sys.argv[1]), int(sys.argv[2])))
