"""The checkpoint that the variant int8 serves, made of the model by a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from studio import models
from studio.errors import ModelError, ServingError
from studio.serving import installed
from studio.settings import ROOT

WORKER = (sys.executable, "-m", "studio.worker.int8")


async def write(model: str, target: Path) -> None:
    """Quantise the model that a person calls `model`; `target` appears when it is complete.

    Raises:
        ModelError: the model is not on this machine.
        ServingError: it cannot be quantised, and why; or there is no vLLM to serve it.
    """
    installed.platform()
    source = models.folder_of(model)
    if source is None:
        raise ModelError(f"{model} is not on this machine: download it first, or give its folder")
    process = await asyncio.create_subprocess_exec(
        *WORKER, str(source), str(target), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        last = next(reversed(said.decode(errors="replace").strip().splitlines()), f"code {process.returncode}")
        raise ServingError(f"It could not be quantised: {last}")
