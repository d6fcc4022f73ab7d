"""What two processes hold after a step, counted in their tensors: python -m tests.planning.team RUN_DIR ...

The processes are forked from this one, as torchrun's agent would start them. Each leaves held.json in its folder: bytes
by type, when all gradients but those with room of their own are gone.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from studio.worker import imports

imports.trim({"deepspeed"})
import deepspeed  # noqa: E402, F401
import torch  # noqa: E402

from studio.files import write_json  # noqa: E402
from studio.worker import progress, training  # noqa: E402, F401
from studio.worker.ranks import Rank  # noqa: E402
from studio.worker.train import main  # noqa: E402

imports.settle()
WORLD = 2


def _held() -> Counter[str]:
    """Bytes of the tensors that Python knows, by type, each storage once."""
    storages = {}
    for found in gc.get_objects():
        if isinstance(found, torch.Tensor):
            own = getattr(found, "_local_tensor", found).untyped_storage()
            storages[own.data_ptr()] = (str(found.dtype).removeprefix("torch."), own.nbytes())
    total: Counter[str] = Counter()
    for kind, size in storages.values():
        total[kind] += size
    return total


def _counting(end: Any, run_dir: Path) -> Any:
    def counted(*words: Any, **keys: Any) -> Any:
        write_json(Rank.of().folder(run_dir) / "held.json", dict(_held()))
        return end(*words, **keys)

    return counted


def _train(run_dir: Path) -> int:
    """Train to the end; the worst exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [_fork(run_dir, rank, port) for rank in range(WORLD)]
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def _fork(run_dir: Path, rank: int, port: int) -> int:
    if child := os.fork():
        return child
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD, "GROUP_RANK": 0}
    place = {"GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in {**numbers, **place}.items()})
    Rank.of().folder(run_dir).mkdir(parents=True, exist_ok=True)
    progress.Progress.on_step_end = _counting(progress.Progress.on_step_end, run_dir)  # type: ignore[method-assign]
    os._exit(main(run_dir))


if __name__ == "__main__":
    sys.exit(max(_train(Path(name)) for name in sys.argv[1:]))
