"""DeepSpeed's settings: generated, a person's own, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.parallel import zero, zero_keys

EXAMPLES = Path("../shared/data/llamafactory/example_configs.json")


def options(strategy: str = "zero2", own: Any = None, **keys: Any) -> TrainConfig:
    """Unchecked by the rules between options, which ask what is tested here."""
    given = {"deepspeed": own if isinstance(own, str) else json.dumps(own)} if own is not None else {}
    return TrainConfig.model_validate({"dataset": ["demo"], "parallel_strategy": strategy, **given, **keys})


@pytest.mark.parametrize(("strategy", "stage"), [("zero1", 1), ("zero2", 2), ("zero3", 3)])
def test_generated_settings_are_what_deepspeed_knows(strategy: str, stage: int) -> None:
    made = zero.settings(options(strategy))
    assert zero.problems(made) == []
    assert made["zero_optimization"]["stage"] == stage
    assert made["zero_optimization"]["overlap_comm"]
    assert made["zero_optimization"]["contiguous_gradients"]
    assert ("stage3_max_live_parameters" in made["zero_optimization"]) == (stage == 3)


def test_offloading_names_the_place_and_the_folder() -> None:
    made = zero.settings(options("zero3", offload_optimizer="nvme", offload_param="cpu", nvme_path="/disk"))[
        "zero_optimization"
    ]
    assert made["offload_optimizer"] == {"device": "nvme", "pin_memory": True, "nvme_path": "/disk"}
    assert made["offload_param"] == {"device": "cpu", "pin_memory": True}


def test_every_auto_gets_its_value() -> None:
    config = options("zero3", per_device_train_batch_size=4, gradient_accumulation_steps=2, max_grad_norm=0.5)
    full = zero.filled(zero.settings(config), config, world=3, precision="bfloat16", hidden=64)
    assert '"auto"' not in json.dumps(full)
    assert full["train_batch_size"] == 24
    assert full["train_micro_batch_size_per_gpu"] == 4
    assert full["gradient_clipping"] == 0.5
    assert (full["bf16"]["enabled"], full["fp16"]["enabled"]) == (True, False)
    assert full["zero_optimization"]["reduce_bucket_size"] == 64 * 64


def test_a_persons_own_keys_go_before_the_generated_ones() -> None:
    own = {"_comment": "mine", "zero_optimization": {"reduce_bucket_size": "5e8", "overlap_comm": False}}
    made = zero.settings(options(own=own))
    assert made["zero_optimization"]["reduce_bucket_size"] == 500_000_000
    assert made["zero_optimization"]["overlap_comm"] is False
    assert made["zero_optimization"]["stage"] == 2
    assert "_comment" not in made


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither JSON nor"):
        zero.parse("{stage: 2")
    with pytest.raises(ConfigError, match="are an object"):
        zero.parse("[1]")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"zero_optimisation": {}}, "DeepSpeed knows no zero_optimisation; do you mean zero_optimization?"),
        ({"zero_optimization": {"overlap_com": 1}}, "zero_optimization.overlap_com; do you mean overlap_comm?"),
        ({"contiguous_gradients": True}, "contiguous_gradients; it belongs into zero_optimization"),
        ({"amp": {"enabled": True}}, "amp is gone from DeepSpeed: use bf16 or fp16"),
        ({"zero_optimization": {"stage": 4}}, "stage is 0, 1, 2 or 3 (got 4)"),
        ({"zero_optimization": {"offload_param": {"device": "gpu"}}}, "one of none, cpu, nvme (got 'gpu')"),
        ({"zero_optimization": 2}, "zero_optimization is an object"),
        ({"zero_optimization": {"reduce_bucket_size": "big"}}, "zero_optimization.reduce_bucket_size is a number"),
        ({"zero_optimization": {"overlap_comm": "yes"}}, "zero_optimization.overlap_comm is true or false (got 'yes')"),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu", "ratio": True}}},
            "zero_optimization.offload_optimizer.ratio is a number (got True)",
        ),
    ],
    ids=["section", "key", "place", "removed", "stage", "device", "no-object", "number", "switch", "deeper"],
)
def test_what_deepspeed_does_not_know_is_named(own: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in zero.problems(own)), zero.problems(own)


def test_contradictions_name_both_sides() -> None:
    own = {
        "train_micro_batch_size_per_gpu": 8,
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 3},
        "optimizer": {"type": "AdamW", "params": {"lr": 0.5}},
    }
    said = zero.contradictions(options(own=own, per_device_train_batch_size=2, max_grad_norm=1.0))
    assert len(said) == 3
    assert any(
        "train_micro_batch_size_per_gpu is 8, and per_device_train_batch_size asks for 2" in each for each in said
    )
    assert any("zero_optimization.stage is 3, and parallel_strategy asks for 2" in each for each in said)
    assert any("optimizer.params.lr is 0.5, and learning_rate" in each for each in said)


def test_llamafactorys_files_pass() -> None:
    if not EXAMPLES.exists():
        pytest.skip(f"{EXAMPLES} is not here")
    files = {name: own for name, own in json.loads(EXAMPLES.read_text()).items() if name.startswith("deepspeed/")}
    assert files
    for name, own in files.items():
        stage = own["zero_optimization"]["stage"]
        assert zero.problems(zero.parse(json.dumps(own))) == [], name
        if stage:
            config = options(f"zero{stage}", own)
            assert zero.contradictions(config) == [], name
            assert '"auto"' not in json.dumps(zero.filled(zero.settings(config), config, 2, "bfloat16", 64))


def test_the_keys_are_those_of_deepspeed() -> None:
    """Every key that its configuration is asked for, and the fields of its own models."""
    from deepspeed.runtime.config import _REMOVED_TOP_LEVEL_CONFIG_KEYS, _REMOVED_ZERO_CONFIG_KEYS, DeepSpeedConfig
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.tensor_parallel.config import TPTrainingConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    asked = Asked({"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2}})
    DeepSpeedConfig(asked)
    assert asked.names - _REMOVED_TOP_LEVEL_CONFIG_KEYS.keys() == set(zero_keys.KEYS[""])
    models = {
        "zero_optimization": DeepSpeedZeroConfig,
        "zero_optimization.offload_optimizer": DeepSpeedZeroOffloadOptimizerConfig,
        "zero_optimization.offload_param": DeepSpeedZeroOffloadParamConfig,
        "bf16": DeepSpeedBF16Config,
        "fp16": DeepSpeedFP16Config,
        "tensor_parallel": TPTrainingConfig,
    }
    for section, model in models.items():
        fields = {field.alias or name for name, field in model.model_fields.items()}
        assert fields == set(zero_keys.KEYS[section]), section
    for section, keys in zero_keys.NUMBERS.items():
        kinds = {field.alias or name: field.annotation for name, field in models[section].model_fields.items()}
        plain = {name: kind for name, kind in kinds.items() if name not in zero_keys.NEITHER}
        assert {name for name, kind in plain.items() if kind not in (bool, bool | None)} == set(keys), section
    removed = {*_REMOVED_TOP_LEVEL_CONFIG_KEYS, *(f"zero_optimization.{key}" for key in _REMOVED_ZERO_CONFIG_KEYS)}
    assert removed == set(zero_keys.REMOVED)


class Asked(dict[str, Any]):
    """Settings that remember which of their keys were looked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __contains__(self, key: object) -> bool:
        self.names.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)

    def keys(self) -> Any:
        return self


def test_what_lies_on_a_disk_is_known() -> None:
    assert zero.is_on_disk(zero.settings(options("zero3", offload_optimizer="nvme", nvme_path="/disk")))
    assert not zero.is_on_disk(zero.settings(options("zero3", offload_optimizer="cpu", offload_param="cpu")))
