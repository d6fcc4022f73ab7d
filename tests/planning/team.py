"""What two processes hold after a step, counted in their tensors: python -m tests.planning.team RUN_DIR ...

Each rank leaves held.json in its folder: bytes by type, when all gradients but those with room of their own are gone.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.worker import world  # isort: skip  # before all that it imports

import torch

from studio.files import write_json
from studio.worker import progress
from studio.worker.ranks import Rank

HELD = "SEEDBED_HELD"


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


def _counting(end: Any) -> Any:
    def counted(*words: Any, **keys: Any) -> Any:
        write_json(Path(os.environ[HELD]) / f"ranks/{Rank.of().index}/held.json", dict(_held()))
        return end(*words, **keys)

    return counted


if __name__ == "__main__":
    progress.Progress.on_step_end = _counting(progress.Progress.on_step_end)  # type: ignore[method-assign]
    for name in sys.argv[1:]:
        os.environ[HELD] = name
        if code := world.train(Path(name), 2):
            sys.exit(code)
