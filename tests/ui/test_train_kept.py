"""The Train form as a browser kept it: what is kept of it, and what is taken back."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from studio.config.option import options
from studio.config.train import TrainConfig
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs import train, train_kept

# one of each kind of widget; a learning rate out of bounds, and a number that is none yet, are what was typed
TYPED = {
    "run_name": "春 <fern>",
    "stage": "dpo",
    "dataset": ["identity", "alpaca_demo"],
    "lora_target": "q_proj,v_proj",
    "learning_rate": 7.0,
    "max_steps": 12,
    "neftune_noise_alpha": "1.",
    "packing": True,
    "bf16": False,
    "gradient_checkpointing": "off",
    "quantization_bit": 4,
}


@pytest.fixture(scope="module")
def form() -> Form:
    choices = {"model_name_or_path": ["seedling"], "dataset": ["identity"], "eval_dataset": []}
    with gr.Blocks():
        return draw(TrainConfig, choices, train.GROUPS, first=train.FIRST)


def kept_of(ctx: Context, form: Form, values: list[Any]) -> str:
    text: str = json.loads(train.on_change(ctx, form, False, None, *values)[0])["draft"]
    return text


def values_of(form: Form, updates: list[Any]) -> list[Any]:
    return [update["value"] for update in updates[2 + len(form.sections) :]]


def test_what_was_typed_comes_back_also_where_it_cannot_be_trained_on(ctx: Context, form: Form) -> None:
    values = form.write(TYPED)
    text = kept_of(ctx, form, values)
    assert json.loads(text) == TYPED
    filled = train.on_kept(form, text)
    assert filled[:2] == [train.BLANK, train_kept.LINE]
    assert values_of(form, filled) == values
    assert kept_of(ctx, form, values_of(form, filled)) == text  # to the letter, or two pages would write in turns


def test_of_a_form_that_starts_only_what_differs_is_kept(ctx: Context, form: Form) -> None:
    assert kept_of(ctx, form, form.write({})) == "{}"
    good = {"dataset": ["alpaca_demo"], "max_steps": 3}
    assert json.loads(kept_of(ctx, form, form.write(good))) == good


def test_every_option_that_is_shown_can_be_read_back(form: Form) -> None:
    defaults = form.read(form.write({}))
    assert train_kept.read(form, json.dumps(defaults)) == (defaults, {})
    offered = [(option.key, choice) for option in form.options for choice in option.choices]
    assert [train_kept.read(form, json.dumps(dict([pair])))[1] for pair in offered] == [{}] * len(offered)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("an_option_of_last_year", 1),
        ("stage", "ppo"),
        ("stage", ["sft"]),
        ("quantization_bit", True),
        ("bf16", "on"),
        ("packing", 1),
        ("max_steps", "12"),
        ("max_steps", True),
        ("learning_rate", None),
        ("run_name", {"a": 1}),
        ("run_name", False),
        ("dataset", 3),
        ("dataset", [["identity"]]),
        ("max_samples", [1]),
    ],
)
def test_what_cannot_be_read_is_left_out_and_told(form: Form, key: str, value: Any) -> None:
    kept, left = train_kept.read(form, json.dumps({"lora_rank": 3, key: value}))
    assert kept == {"lora_rank": 3}
    assert list(left) == [key]
    filled = train.on_kept(form, json.dumps({"lora_rank": 3, key: value}))
    assert f"Left out</p><ul><li><code>{key}</code>" in filled[1]
    assert values_of(form, filled) == form.write({"lora_rank": 3})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", '{"max_steps": NaN}', '{"learning_rate": 1e999}', '{"a": "\\ud800"}', "[" * 100_000],
    ids=["empty", "torn", "a list", "null", "no number", "too large", "half a letter", "deep"],
)
def test_what_is_no_form_at_all_leaves_the_defaults(form: Form, text: str) -> None:
    filled = train.on_kept(form, text)
    assert "cannot be read" in filled[1]
    assert values_of(form, filled) == form.write({})


def test_what_is_told_of_a_kept_form_is_no_markup(form: Form) -> None:
    told = train.on_kept(form, json.dumps({"<img src=x>": 1, "stage": "<script>"}))[1]
    assert "<img" not in told
    assert "<script" not in told


def test_starting_afresh_is_the_form_as_it_was_drawn(form: Form) -> None:
    assert train.on_afresh(form) == [train.BLANK, "", *form.fill({})]


def test_no_option_is_a_secret() -> None:
    """The browser keeps them all; one that is secret would have to be left out."""
    words = {word for option in options(TrainConfig) for word in option.key.split("_")}
    assert words.isdisjoint({"secret", "token", "password", "key", "auth", "credentials"})
