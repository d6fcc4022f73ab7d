"""Checkpoints of a tiny model, made by every method once for all tests of a session."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio import packages
from studio.config.load import parse, save
from studio.config.quantize import QuantizeConfig
from studio.settings import ASSETS, ROOT
from tests.worker.conftest import Finished, register

SEEDLING = ASSETS / "seedling"
ROWS = [
    {"instruction": f"What is {a} + {b}?", "input": "", "output": f"{a} + {b} = {a + b}."}
    for a in range(3, 40, 3)
    for b in range(2, 40, 7)
]
METHODS: dict[str, dict[str, Any]] = {
    "gptq": {"modules_to_not_convert": ["lm_head", "1.mlp.down_proj"]},
    "gptq 8": {
        "export_quantization_method": "gptq",
        "export_quantization_bit": 8,
        "group_size": -1,
        "template": "alpaca",
    },
    "awq": {"symmetric": False},
    "int8": {},
    "fp8": {},
    "rtn": {},
    "bitsandbytes": {},
    "bitsandbytes 8": {"export_quantization_method": "bitsandbytes", "export_quantization_bit": 8},
}
Quantise = Callable[..., dict[str, Finished]]


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with sums as the bundled model does them."""
    return register(tmp_path_factory.mktemp("sums") / "data", sums=ROWS)


@pytest.fixture(scope="session")
def quantise(tmp_path_factory: pytest.TempPathFactory, sums: Path) -> Quantise:
    """Quantise by the workers' flow, several configurations in one process."""
    if why := packages.missing_overlay():
        pytest.skip(why)

    def _quantise(**configs: dict[str, Any]) -> dict[str, Finished]:
        saves = tmp_path_factory.mktemp("saves")
        for name, keys in configs.items():
            write_config(saves / name, sums, **keys)
        folders = [str(saves / name) for name in configs]
        done = subprocess.run(
            [sys.executable, "-m", "tests.worker.quantizing.many", *folders], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return {name: Finished(saves / name) for name in configs}

    return _quantise


def write_config(run_dir: Path, data_dir: Path, **keys: Any) -> None:
    """A run directory with its request: few rows, no servers."""
    quick = {
        "export_quantization_dataset": "sums", "dataset_dir": str(data_dir), "export_quantization_nsamples": 8,
        "eval_samples": 6, "measure_speed": False, "group_size": 32,
    }  # fmt: skip
    run_dir.mkdir(parents=True)
    save(parse(QuantizeConfig, {**quick, **keys}), run_dir / "config.yaml")


@pytest.fixture(scope="session")
def made(quantise: Quantise, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """Every method on the tiny model, and three on the bundled one, whose answers rounding can ruin."""
    spoilt = with_outliers(tmp_path_factory.mktemp("spoilt"))
    tiny = {
        name.replace(" ", "_"): {
            "model_name_or_path": str(tiny_model), "export_quantization_method": name.split()[0], **keys,
        }
        for name, keys in METHODS.items()
    }  # fmt: skip
    rounded = {"export_quantization_method": "rtn", "group_size": -1, "model_name_or_path": str(spoilt)}
    turned = make_gpt2(tmp_path_factory.mktemp("gpt2"), tiny_model)
    return quantise(
        **tiny,
        spoilt=rounded,
        sound={**rounded, "model_name_or_path": "seedling"},
        turned={**rounded, "model_name_or_path": str(turned)},
        calibrated={"model_name_or_path": "seedling", "export_quantization_nsamples": 32, "group_size": 64},
    )


def make_gpt2(folder: Path, other: Path) -> Path:
    """A tiny random GPT-2 with the tokenizer of `other`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 320, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128, "eos_token_id": 2}
    GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(folder)
    for path in other.iterdir():
        if "token" in path.name or path.name == "chat_template.jinja":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def with_outliers(folder: Path) -> Path:
    """The bundled model with one huge weight in each row of the gates, on a channel that is always zero.

    It answers as well as before, and a scale for the whole row leaves nothing of the other weights.
    """
    for path in SEEDLING.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(SEEDLING / "model.safetensors")
    for layer in range(6):
        weights[f"model.layers.{layer}.post_attention_layernorm.weight"][0] = 0
        weights[f"model.layers.{layer}.mlp.gate_proj.weight"][:, 0] = 500.0
    save_file({name: weight.to(torch.bfloat16) for name, weight in weights.items()}, folder / "model.safetensors")
    return folder
