"""The model a training starts from: found on this machine or fetched, and found to be complete."""

from __future__ import annotations

from pathlib import Path

import torch

from studio import models
from studio.errors import ModelError
from studio.models import ModelInfo

STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  # as safetensors spells them


def find(name: str) -> ModelInfo:
    """A model's folder, found to be complete; a hub id is looked up in the local cache and, if allowed, downloaded.

    Raises:
        ModelError: not found, incomplete or damaged.
    """
    resolved = models.resolve(name)
    folder = Path(resolved) if models.is_local(resolved) else _from_hub(resolved)
    return models.check(folder)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, ignore_patterns=["*.bin", "*.pth", "*.gguf", "original/*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name} is neither a folder on this machine nor a model that can be reached: check the spelling, or "
            "download it where there is a network and give its folder"
        ) from error
