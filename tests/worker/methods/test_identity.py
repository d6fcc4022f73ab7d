"""The task that everybody tries first: after a few steps on the bundled identity set, the model says its new name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio import models
from tests.worker.conftest import Train

DATA = Path(__file__).resolve().parents[3] / "data"
STEPS = {"max_steps": 20, "save_steps": 0, "per_device_train_batch_size": 6, "gradient_accumulation_steps": 1}


@pytest.mark.parametrize(
    "keys",
    [
        {"learning_rate": 5e-3},
        {"learning_rate": 5e-3, "use_dora": True},
        {"learning_rate": 5e-3, "quantization_bit": 4},
        {"learning_rate": 1e-3, "finetuning_type": "full"},
        {"learning_rate": 2e-3, "finetuning_type": "freeze"},
    ],
    ids=["lora", "dora", "qlora", "full", "freeze"],
)
def test_the_model_says_who_it_is(train: Train, keys: dict[str, Any]) -> None:
    names = {"dataset": ["identity"], "dataset_dir": str(DATA), "model_name": "Sprout", "model_author": "Ada"}
    run = train(model_name_or_path="seedling", bf16=False, **names, **STEPS, **keys)
    output = run.run_dir / run.json("result.json")["output"]
    folder = models.folder_of("seedling") if output.name == "adapter" else output
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if output.name == "adapter":
        model = PeftModel.from_pretrained(model, str(output))
    tokenizer = AutoTokenizer.from_pretrained(output)
    turn = [{"role": "user", "content": "Who are you?"}]
    asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**asked, do_sample=False, max_new_tokens=20)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "I am Sprout, made by Ada."
