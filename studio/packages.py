"""Packages that only some choices need: whether they are there, and how to install them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from studio.errors import Problem

# optimizer -> the package that has it, where PyTorch and Transformers do not
OPTIMIZERS = {
    "adamw_8bit": "bitsandbytes",
    "paged_adamw_32bit": "bitsandbytes",
    "paged_adamw_8bit": "bitsandbytes",
    "schedule_free_adamw": "schedulefree",
    "schedule_free_sgd": "schedulefree",
    "galore_adamw": "galore_torch",
    "apollo_adamw": "apollo_torch",
}
INSTALL = {
    "bitsandbytes": "pip install bitsandbytes",
    "deepspeed": "pip install deepspeed",
    "schedulefree": "pip install schedulefree",
    "galore_torch": "pip install galore-torch",
    # its licence forbids commercial use, so it does not come with this program
    "apollo_torch": "pip install --no-deps apollo-torch (its licence, CC BY-NC 4.0, forbids commercial use)",
}
# llmcompressor's compressed-tensors is newer than vLLM's, so it has a folder of its own, in front of one worker's path
OVERLAY = Path(sys.prefix) / "quantize"


def is_installed(package: str) -> bool:
    """Whether `package` could be imported; nothing is."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # hidden from a training to save the time of its import
        return False


def missing(optim: str) -> Problem | None:
    """The package that `optim` needs and this environment lacks, with the command that installs it."""
    package = OPTIMIZERS.get(optim)
    if package is None or is_installed(package):
        return None
    return Problem("optim", f"{optim} needs the package {package}: {INSTALL[package]}")


def missing_overlay() -> str:
    """Why no checkpoint can be calibrated here, and the command that changes it; empty where one can."""
    if (OVERLAY / "llmcompressor").is_dir():
        return ""
    return (
        f"llmcompressor is not in {OVERLAY}: run `make extras` once, with a network, or "
        f"pip install --no-deps --target {OVERLAY} -r requirements-quantize.lock"
    )
