"""The checkpoint that the variant int8 serves, made of the model by a process of its own."""

from __future__ import annotations

from pathlib import Path

from studio import models
from studio.errors import ModelError, ServingError
from studio.serving import errand, installed

WORKER = "studio.worker.int8"


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
    try:
        await errand.run(WORKER, str(source), str(target))
    except errand.ErrandFailed as error:
        raise ServingError(f"It could not be quantised: {error}") from None
