"""LLaMA-Factory's keys: each has one fate here, and its own example configurations load or are refused by name."""

from dataclasses import fields

import pytest
from transformers import Seq2SeqTrainingArguments

from studio.config.llamafactory import INSTEAD, OWN, TRANSLATED, VALUES_INSTEAD, WITHOUT_EFFECT
from studio.config.llamafactory.translated import OPTIMIZERS
from studio.config.load import parse, without_effect
from studio.config.option import options
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.settings import ROOT
from tests.config.examples import REFUSED, TRAINING, Example, or_skipped

KEYS_FILE = ROOT / "tests/config/llamafactory_keys.txt"
OPTIONS = {option.key for option in options(TrainConfig)}
CHOICES = {choice for option in options(TrainConfig) for choice in option.choices} | {"embed_tokens"}
SEVERAL_FATES = set(TRANSLATED) & OPTIONS  # an option here, some of whose values are written otherwise there


def their_keys() -> set[str]:
    lines = [line for line in KEYS_FILE.read_text().splitlines() if not line.startswith("#")]
    return {key for line in lines for key in line.split()} | {field.name for field in fields(Seq2SeqTrainingArguments)}


def problems_of(values):
    try:
        parse(TrainConfig, {"dataset": "a", **values})
    except ConfigError as error:
        return {problem.where: problem.what for problem in error.problems}
    return {}


# every key has one fate


def test_every_key_has_a_fate():
    known = (OPTIONS - OWN) | set(TRANSLATED) | set(WITHOUT_EFFECT) | set(INSTEAD)
    assert their_keys() == known


def test_no_key_has_two_fates():
    fates = [OPTIONS | OWN, set(TRANSLATED) - SEVERAL_FATES, set(WITHOUT_EFFECT), set(INSTEAD)]
    assert sum(map(len, fates)) == len(set().union(*fates))
    spelled = {"stage", "optim", "warmup_steps", "add_tokens", "add_special_tokens", "save_strategy"}
    assert spelled | {"deepspeed", "ddp_timeout"} == SEVERAL_FATES
    assert OWN <= OPTIONS


@pytest.mark.parametrize("key", INSTEAD)
def test_a_key_that_is_refused_comes_with_what_to_use(key):
    assert problems_of({key: "something"}) == {key: f"is not supported; use instead: {INSTEAD[key]}"}
    assert problems_of({key: None}) == problems_of({key: False}) == {}


@pytest.mark.parametrize(
    ("key", "value"), [("model_revision", "main"), ("packing_strategy", "length"), ("num_mtp_layers", 0)]
)
def test_their_default_of_a_refused_key_asks_for_nothing(key, value):
    assert problems_of({key: value}) == {}


@pytest.mark.parametrize(("key", "value"), VALUES_INSTEAD)
def test_a_value_that_is_refused_comes_with_what_to_use(key, value):
    wanted = f"{value} is not supported; use instead: {VALUES_INSTEAD[key, value]}"
    assert problems_of({key: value}) == {key: wanted}


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_a_key_without_effect_is_left_out_and_told(key):
    values = {"dataset": "a", key: "something"}
    assert parse(TrainConfig, values) == TrainConfig(dataset="a")
    assert [(told.where, bool(told.what)) for told in without_effect(values)] == [(key, True)]


@pytest.mark.parametrize("sentence", [*INSTEAD.values(), *VALUES_INSTEAD.values()])
def test_an_alternative_names_something_that_exists(sentence):
    words = set(sentence.replace(":", " ").replace(",", " ").split())
    elsewhere = ("nothing", "text data", "the environment", "the Chat tab", "the run's own folder")
    assert words & OPTIONS or sentence.startswith(elsewhere) or "in the environment" in sentence
    assert {word for word in words if "_" in word and word.islower()} <= OPTIONS | CHOICES


# translations


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"stage": "orpo"}, {"stage": "dpo", "pref_loss": "orpo"}),
        ({"stage": "simpo", "pref_loss": "sigmoid"}, {"stage": "dpo", "pref_loss": "simpo"}),
        ({"stage": "dpo"}, {"stage": "dpo", "pref_loss": "sigmoid"}),
        ({"output_dir": "saves/qwen/lora/sft"}, {"run_name": "sft"}),
        ({"output_dir": "saves/qwen", "run_name": "mine"}, {"run_name": "mine"}),
        ({"use_muon": True}, {"optim": "muon"}),
        ({"use_muon": False}, {"optim": "adamw_torch"}),
        ({"use_galore": True, "optim": "adamw_torch", "finetuning_type": "full"}, {"optim": "galore_adamw"}),
        ({"use_apollo": True, "finetuning_type": "freeze"}, {"optim": "apollo_adamw"}),
        *(({"optim": theirs}, {"optim": ours}) for theirs, ours in OPTIMIZERS.items()),
        ({"disable_gradient_checkpointing": True}, {"gradient_checkpointing": "off"}),
        ({"disable_gradient_checkpointing": False}, {"gradient_checkpointing": None}),
        ({"gradient_checkpointing": True}, {"gradient_checkpointing": "on"}),
        ({"use_liger_kernel": True}, {"enable_liger_kernel": True}),
        ({"use_liger_kernel": True, "enable_liger_kernel": False}, {"enable_liger_kernel": False}),
        ({"neat_packing": True, "packing": False}, {"packing": True}),
        ({"eval_strategy": "steps", "eval_steps": 7, "val_size": 0.1}, {"eval_steps": 7}),
        ({"eval_strategy": "steps", "logging_steps": 5, "val_size": 0.1}, {"eval_steps": 5}),
        ({"eval_strategy": "epoch", "eval_steps": 7, "val_size": 0.1}, {"eval_steps": None}),
        ({"evaluation_strategy": "no", "eval_steps": 7}, {"eval_steps": None}),
        ({"save_strategy": "no", "save_steps": 5}, {"save_strategy": "no"}),
        ({"save_strategy": False}, {"save_strategy": "no"}),
        ({"save_strategy": "epoch"}, {"save_strategy": "epoch"}),
        ({"save_strategy": "steps", "save_steps": 5}, {"save_steps": 5}),
        ({"save_strategy": "best", "val_size": 0.1}, {"load_best_model_at_end": True}),
        ({"warmup_steps": 0.1}, {"warmup_ratio": 0.1, "warmup_steps": 0}),
        ({"warmup_steps": 10}, {"warmup_ratio": 0.0, "warmup_steps": 10}),
        ({"add_tokens": "<a>,<b>"}, {"add_tokens": ("<a>", "<b>"), "resize_vocab": True}),
        ({"add_special_tokens": ["<a>"]}, {"add_special_tokens": ("<a>",), "resize_vocab": True}),
        ({"add_special_tokens": []}, {"resize_vocab": False}),
    ],
    ids=str,
)
def test_their_words_are_read_as_ours(values, wanted):
    config = parse(TrainConfig, {"dataset": "a", **values})
    assert {key: getattr(config, key) for key in wanted} == wanted


@pytest.mark.parametrize("key", sorted(set(TRANSLATED) - SEVERAL_FATES))
def test_a_translated_key_without_a_value_asks_for_nothing(key):
    assert parse(TrainConfig, {"dataset": "a", key: None}) == TrainConfig(dataset="a")


def test_a_configuration_of_ours_is_not_translated():
    config = parse(TrainConfig, {"dataset": "a", "stage": "simpo", "warmup_steps": 0.1, "add_tokens": "<a>"})
    assert parse(TrainConfig, config.model_dump(mode="json")) == config


# their examples


@pytest.mark.parametrize("example", or_skipped(TRAINING), ids=str)
def test_an_example_without_foreign_parts_loads(example: Example):
    values = example.values
    config = parse(TrainConfig, values)
    assert config.learning_rate == values["learning_rate"]
    assert config.dataset == tuple(name.strip() for name in values["dataset"].split(","))
    assert config.run_name == values["output_dir"].rpartition("/")[2]
    assert config.stage == values["stage"]


@pytest.mark.parametrize("example", or_skipped(REFUSED), ids=str)
def test_every_other_example_is_refused_by_its_foreign_keys(example: Example):
    found = problems_of(example.values)
    assert set(found) == set(example.refused_by)
    assert all("is not supported; use instead: " in what for what in found.values())
