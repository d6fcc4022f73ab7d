"""Where a base model is on this machine. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from studio import models
from studio.models import ModelInfo
from studio.worker import tokenizer

UNREAD = ("*.bin", "*.pth", "*.gguf", "original/*")  # of a hub id, not downloaded


def find(name: str) -> ModelInfo:
    """A model's folder, found to be complete; a hub id is looked up in the local cache and, if allowed, downloaded.

    Raises:
        ModelError: not found, incomplete or damaged.
    """
    resolved = models.resolve(name)
    folder = Path(resolved) if models.is_local(resolved) else tokenizer.download(resolved, unread=UNREAD)
    return models.check(folder)
