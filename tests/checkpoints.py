"""Checkpoints as a training leaves them, made of small files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from studio.files import write_json
from studio.runs.checkpoints import File, Manifest, files_of, hashes


def make_checkpoint(folder: Path, step: int, manifest: dict[str, Any] | None = None, **state: Any) -> Path:
    """A whole one of that step; `manifest` and `state` change what its manifest and the trainer's record say."""
    (folder / "deep").mkdir(parents=True)
    for name in ("model.safetensors", "deep/rng.pth"):
        (folder / name).write_text(f"{name} at {step}")
    write_json(folder / "trainer_state.json", {"global_step": step, **state})
    names = files_of(folder)
    files = {
        name: File((folder / name).stat().st_size, digest) for name, digest in sorted(hashes(folder, names).items())
    }
    usual = {"tokens": 10 * step, "world_size": 1, "strategy": "single", "batch": 16, "weights_only": False}
    facts = {**usual, "versions": {"torch": "2"}, "data": {}, "created": time.time(), **(manifest or {})}
    Manifest(step=step, files=files, **facts).write(folder)
    return folder
