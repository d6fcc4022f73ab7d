"""Importing the training libraries in half the time.

Nothing here imports anything heavy; `trim` must run before the first of them does.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Collection

from studio.worker import scans

# found by the libraries if installed, imported at once, and of no use to a text training; each costs 0.1 to 1.6 s
UNUSED = (
    "bitsandbytes",
    "deepspeed",
    "PIL",
    "torchvision",
    "torchaudio",
    "vllm",
    "wandb",
    "matplotlib",
    "sklearn",
)
OF_BITSANDBYTES = ("adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_32bit")


def trim(needed: Collection[str] = ()) -> None:
    """Hide the unused packages, keep what libraries scan files for, and the hub and the collector quiet.

    `needed` are packages that this time are of use.
    """
    for name in set(UNUSED).difference(needed):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python spells "not importable"
    scans.keep()
    # batches of many sizes leave memory in pieces that fit no other: 64 GB were taken where 34 were in use
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name, which torch would no longer look at
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TQDM_DISABLE", "1")
    gc.disable()


def settle() -> None:
    """Imports are done: what they left behind is never garbage, what comes may be."""
    gc.enable()
    gc.freeze()
