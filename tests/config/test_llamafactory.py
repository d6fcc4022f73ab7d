"""LLaMA-Factory's own example configurations: what we can do loads, what we cannot is refused by name."""

import json

import pytest

from studio.config.llamafactory import INSTEAD, WITHOUT_EFFECT
from studio.config.load import parse, without_effect
from studio.config.train import TrainConfig
from studio.config.train.optimizer import Optimizer
from studio.errors import ConfigError
from studio.settings import ROOT

EXAMPLES = ROOT.parent / "shared" / "data" / "llamafactory" / "example_configs.json"
FOREIGN_STAGES = ("ppo",)
FOREIGN_METHODS = ("oft",)


def training_examples():
    """Those of the train command; other folders hold DeepSpeed files and another program's keys."""
    if not EXAMPLES.exists():
        return {}
    read = json.loads(EXAMPLES.read_text())
    return {name: values for name, values in read.items() if values.get("stage") and not name.startswith("v1/")}


TRAINING = training_examples()
RUNNABLE = [
    name for name, values in TRAINING.items() if set(values) <= set(TrainConfig.model_fields) | set(WITHOUT_EFFECT)
]


@pytest.fixture(autouse=True)
def _examples():
    if not EXAMPLES.exists():
        pytest.skip("LLaMA-Factory's example configurations are not on this machine")


def test_the_plain_sft_examples_load():
    loaded = {
        name
        for name in RUNNABLE
        if TRAINING[name]["stage"] == "sft" and TRAINING[name]["finetuning_type"] in ("lora", "full")
    }
    assert "train_lora/qwen3_lora_sft.yaml" in loaded
    for name in loaded:
        config = parse(TrainConfig, TRAINING[name])
        assert config.learning_rate == TRAINING[name]["learning_rate"]
        assert config.dataset == tuple(TRAINING[name]["dataset"].split(","))
        assert config.run_name == TRAINING[name]["output_dir"].rpartition("/")[2]


@pytest.mark.parametrize("name", TRAINING)
def test_every_other_example_is_refused_by_its_foreign_keys_alone(name):
    values = TRAINING[name]
    foreign = {key for key, value in values.items() if is_foreign(key, value)}
    assert {problem.where for problem in problems_of(values)} == foreign


def problems_of(values):
    try:
        parse(TrainConfig, values)
    except ConfigError as error:
        return error.problems
    return ()


def is_foreign(key, value):
    if key == "stage":
        return value in FOREIGN_STAGES
    if key == "finetuning_type":
        return value in FOREIGN_METHODS
    if key == "optim":
        return value not in Optimizer.__args__
    if key in INSTEAD:
        return value not in (None, False)
    return key not in TrainConfig.model_fields and key not in WITHOUT_EFFECT


@pytest.mark.parametrize("key", INSTEAD)
def test_a_known_key_that_is_refused_comes_with_what_to_use(key):
    with pytest.raises(ConfigError, match=f"{key}: is not supported; use instead: "):
        parse(TrainConfig, {"dataset": "a", key: "something"})
    assert parse(TrainConfig, {"dataset": "a", key: None})


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_a_key_without_effect_is_left_out_and_told(key):
    values = {"dataset": "a", key: "something"}
    assert parse(TrainConfig, {**values, "run_name": "x"}) == TrainConfig(dataset="a", run_name="x")
    assert [(told.where, bool(told.what)) for told in without_effect(values)] == [(key, True)]


def test_no_key_is_both_an_option_and_foreign():
    assert not (set(INSTEAD) | set(WITHOUT_EFFECT)) & set(TrainConfig.model_fields)
    assert not set(INSTEAD) & set(WITHOUT_EFFECT)


@pytest.mark.parametrize(
    "alternative", [text for text in INSTEAD.values() if not text.startswith(("nothing", "one process", "merge"))]
)
def test_an_alternative_names_something_that_exists(alternative):
    words = alternative.replace(":", " ").replace(",", " ").split()
    assert set(words) & set(TrainConfig.model_fields) or "data" in words or "LoRA" in words
