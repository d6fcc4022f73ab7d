"""How a merge is asked to round its base, and what of a base is rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.config.load import parse, save
from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.worker.merging import quantised
from studio.worker.merging.quantised import Rounding


def trained(run_dir: Path, **keys: Any) -> Path:
    """The adapter's folder of a training, with its request."""
    (run_dir / "adapter").mkdir(parents=True)
    config = parse(TrainConfig, {"model_name_or_path": "seedling", "dataset": ["identity"], **keys})
    save(config, run_dir / "config.yaml")
    return run_dir / "adapter"


def asked(value: str, *adapters: Path) -> Rounding | None:
    names = [str(adapter) for adapter in adapters]
    return quantised.asked(parse(MergeConfig, {"adapter_name_or_path": names, "dequantize_base": value}), adapters)


def test_the_rounding_of_a_training_is_taken_from_its_run(tmp_path: Path) -> None:
    four = trained(tmp_path / "four", quantization_bit=4, quantization_type="fp4", double_quantization=False)
    eight, full = trained(tmp_path / "eight", quantization_bit=8), trained(tmp_path / "full")
    assert asked("auto", four) == Rounding("fp4", double=False)
    assert asked("nf4", four) == Rounding("nf4", double=False)
    assert asked("auto", eight) == Rounding("int8")
    assert asked("none", four) is None
    assert asked("nf4", tmp_path / "elsewhere") == Rounding("nf4")
    with pytest.raises(ConfigError, match="its training is not here"):
        asked("auto", tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="different ways"):
        asked("auto", four, full)


@pytest.mark.parametrize(
    ("name", "shape", "is_rounded"),
    [
        ("model.layers.0.self_attn.q_proj.weight", (8, 8), True),
        ("model.layers.0.mlp.shared_expert_gate.weight", (1, 8), True),
        ("h.0.attn.c_attn.weight", (8, 24), True),
        ("model.layers.0.self_attn.q_proj.bias", (8,), False),
        ("model.layers.0.input_layernorm.weight", (8,), False),
        ("model.layers.0.mlp.gate.weight", (4, 8), False),
        ("model.layers.0.mlp.experts.3.up_proj.weight", (8, 8), False),
        ("model.layers.0.mlp.experts.gate_up_proj", (4, 16, 8), False),
        ("model.embed_tokens.weight", (96, 8), False),
        ("lm_head.weight", (96, 8), False),
    ],
)
def test_only_linear_layers_are_rounded(name: str, shape: tuple[int, ...], is_rounded: bool) -> None:
    assert quantised.is_linear(name, shape) is is_rounded
