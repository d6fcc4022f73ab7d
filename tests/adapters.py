"""What a training of the bundled model leaves behind, made in a moment: a small random adapter in a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from studio import models
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs.store import Store
from studio.settings import ASSETS

SEEDLING = ASSETS / "seedling"
RANK = 4
MODULE = "model.layers.0.self_attn.q_proj"


def trained(store: Store, name: str) -> Path:
    """The adapter's folder, of a finished run called `name`: rank 4 on the first query projection."""
    run = store.create(TrainConfig(model_name_or_path="seedling", dataset=("identity",), run_name=name))
    folder = run.path / "adapter"
    folder.mkdir()
    lines, columns = models.read_header(SEEDLING / "model.safetensors")[f"{MODULE}.weight"]["shape"]
    chance = np.random.default_rng(0)
    weights = {
        f"base_model.model.{MODULE}.lora_A.weight": chance.normal(0, 0.02, (RANK, columns)).astype(np.float32),
        f"base_model.model.{MODULE}.lora_B.weight": chance.normal(0, 0.02, (lines, RANK)).astype(np.float32),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "target_modules": [MODULE]}
    write_json(folder / "adapter_config.json", config)
    write_json(folder / "base.json", {"name": "seedling", "path": str(SEEDLING)})
    write_json(run.path / "exit.json", {"code": 0, "reason": "completed"})
    write_json(run.path / "result.json", {"output": "adapter"})
    return folder
