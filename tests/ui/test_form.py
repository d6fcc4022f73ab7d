"""The form: every declared option has a widget, and values survive the way there and back."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from studio.config import load
from studio.config.option import options
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.ui.form import HIDDEN_GROUPS, Form, draw
from studio.ui.tabs.train import GROUPS


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(TrainConfig, {"model_name_or_path": ["seedling"], "dataset": ["identity"]}, GROUPS)


def changed(form: Form, **values: Any) -> list[Any]:
    return form.write({**TrainConfig.model_construct(dataset=("identity",)).model_dump(), **values})


def test_every_option_has_a_widget(form: Form) -> None:
    declared = {option.key for option in options(TrainConfig) if option.group not in HIDDEN_GROUPS}
    assert {option.key for option in form.options} == declared


def test_untouched_form_is_the_default_configuration(form: Form) -> None:
    assert load.parse(TrainConfig, form.read(changed(form))) == TrainConfig(dataset=("identity",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bf16", True),
        ("bf16", False),
        ("lora_alpha", 32),
        ("lora_target", ("q_proj", "v_proj")),
        ("default_system", 'Be kind.\n"Really"'),
        ("learning_rate", 1e-5),
        ("max_samples", 10),
        ("packing", True),
        ("lr_scheduler_type", "linear"),
        ("model_author", "小明"),
    ],
)
def test_values_survive_the_form(form: Form, key: str, value: Any) -> None:
    config = load.parse(TrainConfig, form.read(changed(form, **{key: value})))
    assert getattr(config, key) == value


def test_text_in_a_number_is_a_problem_with_its_key(form: Form) -> None:
    with pytest.raises(ConfigError) as error:
        load.parse(TrainConfig, form.read(changed(form, lora_alpha="abc", max_samples="1e")))
    assert {problem.where for problem in error.value.problems} == {"lora_alpha", "max_samples"}


def test_lora_options_hide_for_full_fine_tuning(form: Form) -> None:
    updates = dict(
        zip((option.key for option in form.options), form.visible(changed(form, finetuning_type="full")), strict=True)
    )
    assert updates["lora_rank"]["visible"] is False
    assert "visible" not in updates["learning_rate"]
