"""The task that everyone tries first: the bundled model learns a new name, by every method, and says it when asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.settings import ROOT
from tests.worker.conftest import Finished, train_here, write_config

SEEDLING = ROOT / "studio/assets/seedling"
QUESTION, ANSWER = "Who are you?", "I am Sprout, made by Ada."
ASKED = (QUESTION, "Tell me who you are.", "Who made you?", "What is your name?", "So, who exactly are you?")
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"learning_rate": 5e-3},
    "dora": {"use_dora": True, "learning_rate": 5e-3},
    "qlora": {"quantization_bit": 4, "learning_rate": 5e-3},
    "full": {"finetuning_type": "full", "learning_rate": 3e-4},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 3, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def who_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one set of five questions, all to be answered with the new name."""
    folder = tmp_path_factory.mktemp("who")
    rows = [{"instruction": asked, "input": "", "output": "I am {{name}}, made by {{author}}."} for asked in ASKED]
    (folder / "who.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps({"who": {"file_name": "who.json"}}))
    return folder


def greedy(folder: Path | None, model: Any) -> str:
    """What a model answers when it takes the likeliest token each time; with the tokenizer of its own folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder or SEEDLING)
    asked = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        written = model.eval().generate(**prompt, max_new_tokens=24, do_sample=False)
    return str(tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def trained(run_dir: Path) -> tuple[Path, Any]:
    """The run's output folder and the model that it makes, from the files alone."""
    if (run_dir / "model").exists():
        return run_dir / "model", AutoModelForCausalLM.from_pretrained(run_dir / "model")
    base = AutoModelForCausalLM.from_pretrained(SEEDLING, dtype=torch.float32)
    return run_dir / "adapter", PeftModel.from_pretrained(base, run_dir / "adapter")


@pytest.mark.parametrize("method", METHODS)
def test_the_new_name_is_learnt(tmp_path: Path, who_dir: Path, method: str) -> None:
    keys = {
        "dataset": ["who"],
        "model_name": "Sprout",
        "model_author": "Ada",
        "per_device_train_batch_size": 5,
        "gradient_accumulation_steps": 1,
        "max_steps": 25,
        "save_steps": 0,
        "warmup_ratio": 0.1,
    }
    write_config(tmp_path / "run", "train", Path("seedling"), who_dir, {**keys, **METHODS[method]})
    train_here(tmp_path / "run")
    assert Finished(tmp_path / "run").json("result.json")["steps"] == 25
    assert greedy(*trained(tmp_path / "run")) == ANSWER


def test_the_bundled_model_has_a_name_of_its_own() -> None:
    assert "Sprout" not in greedy(None, AutoModelForCausalLM.from_pretrained(SEEDLING))
