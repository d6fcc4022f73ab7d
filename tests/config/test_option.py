"""What every declared option must say of itself, and the bounds it must keep."""

import math
import re

import pytest

from studio.config.load import KINDS, parse
from studio.config.option import applies, options
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.settings import ROOT

NEEDS = {
    "train": {"dataset": ["identity"]},
    "serve": {},
    "merge": {"adapter_name_or_path": "adapter"},
    "data": {"dataset": ["identity"]},
    "arena": {"contestants": ["seedling", "adapter"], "prompts": "hi"},
    "bench": {},
    "gguf": {"model_name_or_path": "seedling"},
    "ollama": {"model_name_or_path": "seedling"},
    "quantize": {
        "model_name_or_path": "seedling",
        "export_quantization_method": "rtn",
        "export_quantization_dataset": "identity",
        "eval_dataset": "identity",
    },
    "adapter": {"adapter_name_or_path": ["adapter"]},
    "push": {"model_name_or_path": "adapter", "hub_model_id": "rosa/bramble"},
    "consolidate": {"run": "20261122-abc"},
}
ALL = [(kind, option) for kind in KINDS for option in options(KINDS[kind])]
BOUNDED = [(kind, option) for kind, option in ALL if option.low is not None or option.high is not None]
CHOICES = [(kind, option) for kind, option in ALL if option.choices]


def name_of(value):
    return getattr(value, "key", str(value))


def config_with(kind, key, value):
    return parse(KINDS[kind], {**NEEDS[kind], key: value})


@pytest.mark.parametrize(("kind", "option"), ALL, ids=name_of)
def test_every_option_speaks_both_languages(kind, option):
    assert option.en.endswith(".")
    assert option.zh.endswith("。")
    assert re.search(r"[\u4e00-\u9fff]", option.zh)
    assert option.group
    assert all(option.label)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_an_option_or_known_not_to_be(kind):
    undeclared = set(KINDS[kind].model_fields) - {option.key for option in options(KINDS[kind])}
    assert undeclared <= {"kind", "adapters"}


@pytest.mark.parametrize(("kind", "option"), ALL, ids=name_of)
def test_conditions_name_options_that_can_have_those_values(kind, option):
    others = {other.key: other for other in options(KINDS[kind])}
    for key, wanted in option.when.items():
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        assert values
        assert not others[key].choices or set(values) <= set(others[key].choices)


@pytest.mark.parametrize(("kind", "option"), BOUNDED, ids=name_of)
def test_bounds_hold_at_the_edge(kind, option):
    step = 1 if option.kind == "int" else 1e-6
    if option.low is not None:
        assert_edge(kind, option, option.low, -step, is_open=option.open_low)
    if option.high is not None:
        accepted = accepts(kind, option.key, option.high)
        assert not accepts(kind, option.key, option.high + step)
        assert accepted or accepts(kind, option.key, option.high - step)


def assert_edge(kind, option, edge, outwards, is_open):
    assert accepts(kind, option.key, edge) != is_open
    assert not accepts(kind, option.key, edge + outwards)
    assert accepts(kind, option.key, edge - outwards)


def accepts(kind, key, value):
    """Whether the option takes the value; rules between options may still object to it."""
    try:
        config_with(kind, key, value)
    except ConfigError as error:
        return not any(problem.where == key and "input should" in problem.what for problem in error.problems)
    return True


@pytest.mark.parametrize(("kind", "option"), [pair for pair in ALL if pair[1].kind == "float"], ids=name_of)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_option_takes_what_is_not_finite(kind, option, value):
    assert not accepts(kind, option.key, value)


@pytest.mark.parametrize(("kind", "option"), CHOICES, ids=name_of)
def test_choices_are_the_only_values(kind, option):
    for choice in option.choices:
        assert accepts(kind, option.key, choice)
    assert not accepts(kind, option.key, "none of them")


@pytest.mark.parametrize(("kind", "option"), ALL, ids=name_of)
def test_null_is_taken_where_it_says_so(kind, option):
    assert accepts(kind, option.key, None) == option.nullable


def test_every_option_of_a_training_is_read_by_what_trains():
    rooms = [
        path for room in ("worker", "datasets", "parallel", "runs") for path in (ROOT / "studio" / room).rglob("*.py")
    ]
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in rooms)))
    declared = {option.key for option in options(TrainConfig)}
    assert declared - words == {"quantization_method"}  # which has a single choice


def test_options_read_a_declaration_as_the_form_needs_it():
    found = {option.key: option for option in options(TrainConfig)}
    assert "kind" not in found
    rank, rate, alpha = found["lora_rank"], found["learning_rate"], found["lora_alpha"]
    assert (rank.kind, rank.default, rank.low, rank.high, rank.when) == ("int", 8, 1, 512, {"finetuning_type": "lora"})
    assert (rate.kind, rate.low, rate.open_low, rate.high) == ("float", 0, True, 1)
    assert (alpha.kind, alpha.nullable, alpha.default) == ("int", True, None)
    assert found["finetuning_type"].choices == ("lora", "full", "freeze")
    assert found["dataset"].kind == "list"
    assert found["packing"].kind == "bool"
    assert found["seed"].label == ("seed", "seed")


@pytest.mark.parametrize(
    ("key", "values", "matters"),
    [
        ("seed", {}, True),
        ("lora_rank", {"finetuning_type": "lora"}, True),
        ("lora_rank", {"finetuning_type": "full"}, False),
        ("lora_rank", {}, False),
        ("pref_beta", {"stage": "dpo"}, True),
        ("pref_beta", {"stage": "kto"}, True),
        ("pref_beta", {"stage": "sft"}, False),
        ("simpo_gamma", {"stage": "dpo", "pref_loss": "sigmoid"}, False),
        ("simpo_gamma", {"stage": "dpo", "pref_loss": "simpo"}, True),
        ("quantization_type", {"quantization_bit": 4}, True),
        ("quantization_type", {"quantization_bit": "4"}, True),
        ("quantization_type", {"quantization_bit": 8}, False),
        ("quantization_type", {"quantization_bit": None}, False),
        ("quantization_type", {"quantization_bit": ""}, False),
        ("reward_pattern", {"stage": "grpo", "reward_funcs": ("length", "format_match")}, True),
        ("reward_pattern", {"stage": "grpo", "reward_funcs": "length, format_match"}, True),
        ("reward_pattern", {"stage": "grpo", "reward_funcs": "length"}, False),
        ("reward_pattern", {"stage": "grpo", "reward_funcs": ""}, False),
        ("pissa_iter", {"finetuning_type": "lora", "pissa_init": True}, True),
        ("pissa_iter", {"finetuning_type": "lora", "pissa_init": False}, False),
    ],
)
def test_an_option_matters_where_its_conditions_hold(key, values, matters):
    [option] = [option for option in options(TrainConfig) if option.key == key]
    assert applies(option, values) is matters


def test_a_configuration_is_a_value():
    config = TrainConfig(dataset="a")
    assert hash(config) == hash(TrainConfig(dataset="a"))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
