"""The form: every declared option has a widget, and values survive the way there and back."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from studio.config import load
from studio.config.arena import ArenaConfig
from studio.config.option import options
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.ui.form import HIDDEN_GROUPS, LONG_TEXTS, Form, draw
from studio.ui.tabs.train import FIRST, GROUPS

CHOICES = {
    key: ["x"] for key in ("model_name_or_path", "dataset", "reward_funcs", "report_to", "template", "ref_model")
}


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(TrainConfig, CHOICES, GROUPS, first=FIRST)


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
        ("report_to", ("tensorboard", "wandb")),
        ("template", "chatml"),
        ("sample_prompts", "Who?\nWhere?"),
        ("quantization_bit", 4),
        ("gradient_checkpointing", "off"),
        ("gradient_checkpointing", None),
    ],
)
def test_values_survive_the_form(form: Form, key: str, value: Any) -> None:
    config = load.parse(TrainConfig, form.read(changed(form, **{key: value})))
    assert getattr(config, key) == value


def test_what_is_left_to_the_studio_can_be_gone_back_to(form: Form) -> None:
    """Presets, and cards of earlier runs, say true and false."""
    recomputing, stretching = (form.component(key) for key in ("gradient_checkpointing", "rope_scaling"))
    assert (recomputing.choices[0], recomputing.value) == (("auto", ""), "")
    assert stretching.choices[0] == ("—", "")
    keys = [option.key for option in form.options]
    written = [form.write({"gradient_checkpointing": value}) for value in (True, False, None)]
    assert [values[keys.index("gradient_checkpointing")] for values in written] == ["on", "off", ""]


def test_an_arrow_key_adds_what_the_option_is_counted_in(form: Form) -> None:
    steps = {key: form.component(key).step for key in ("learning_rate", "num_train_epochs", "val_size", "max_steps")}
    assert steps == pytest.approx({"learning_rate": 0.0001, "num_train_epochs": 1, "val_size": 0.01, "max_steps": 1})


def test_text_in_a_number_is_a_problem_with_its_key(form: Form) -> None:
    with pytest.raises(ConfigError) as error:
        load.parse(TrainConfig, form.read(changed(form, lora_alpha="abc", max_samples="1e")))
    assert {problem.where for problem in error.value.problems} == {"lora_alpha", "max_samples"}


@pytest.mark.parametrize(
    "values",
    [
        {"stage": "dpo", "pref_loss": "simpo", "simpo_gamma": 0.75},
        {"stage": "kto", "kto_rejected_weight": 2.0, "ref_model": "seedling"},
        {"stage": "grpo", "reward_funcs": ("length", "exact_match"), "reward_weights": (1.0, 0.5), "reward_length": 9},
        {"finetuning_type": "freeze", "freeze_trainable_layers": -1},
        {"finetuning_type": "full", "optim": "galore_adamw", "galore_rank": 4},
        {"quantization_bit": 4, "quantization_type": "fp4", "double_quantization": False},
        {"use_adalora": True, "adalora_init_r": 20},
    ],
)
def test_dependent_options_survive_the_form(form: Form, values: dict[str, Any]) -> None:
    config = load.parse(TrainConfig, form.read(changed(form, **values)))
    assert {key: getattr(config, key) for key in values} == values


def test_every_option_that_decides_over_others_is_listened_to(form: Form) -> None:
    assert set(form.controlling) == {key for option in options(TrainConfig) for key in option.when}


def visible(form: Form, **values: Any) -> tuple[set[str], set[str]]:
    """Sections and conditional options that are shown for these values, as a browser gets them."""
    written = dict(zip((option.key for option in form.options), form.write(values), strict=True))
    updates = form.visible([written[key] for key in form.controlling])
    names = [section.group for section in form.sections], [option.key for option in form.options if option.when]
    shown = dict(zip([*names[0], *(f"-{key}" for key in names[1])], updates, strict=True))
    on = {name for name, update in shown.items() if update["visible"]}
    return on & set(names[0]), {name[1:] for name in on - set(names[0])}


def test_sections_come_and_go_with_what_they_are_for(form: Form) -> None:
    always = {
        "model", "method", "data", "optimisation", "evaluation", "optimizer", "precision", "parallel", "saving",
        "trackers",
    }  # fmt: skip
    assert visible(form)[0] - {"advanced"} == always | {"lora"}
    assert visible(form, finetuning_type="freeze")[0] - {"advanced"} == always | {"freeze"}
    assert visible(form, stage="dpo", quantization_bit=4)[0] - {"advanced"} == always | {
        "lora", "quantisation", "preference",
    }  # fmt: skip
    assert visible(form, stage="rloo", finetuning_type="full")[0] - {"advanced"} == always | {"reward"}


def test_what_a_hidden_widget_was_left_at_says_nothing(form: Form) -> None:
    """Bits that were chosen for LoRA open no section of a full fine-tuning, and are not sent with it."""
    stale = {"finetuning_type": "full", "quantization_bit": 4, "quantization_type": "fp4", "use_dora": True}
    assert "quantisation" not in visible(form, **stale)[0]
    config = load.parse(TrainConfig, form.read(changed(form, **stale)))
    assert config == TrainConfig(dataset=("identity",), finetuning_type="full")


def test_an_option_of_an_option_is_shown_only_with_both(form: Form) -> None:
    assert "simpo_gamma" in visible(form, stage="dpo", pref_loss="simpo")[1]
    assert "simpo_gamma" not in visible(form, pref_loss="simpo")[1]
    assert "reward_length" in visible(form, stage="grpo", reward_funcs=["length"])[1]


def test_filling_shows_what_the_values_need(form: Form) -> None:
    updates = form.fill({"stage": "dpo", "pref_loss": "simpo"})
    assert len(updates) == len(form.filled)
    widgets = dict(zip((option.key for option in form.options), updates[len(form.sections) :], strict=True))
    assert widgets["simpo_gamma"]["visible"] is True
    assert widgets["num_generations"]["visible"] is False
    assert "visible" not in widgets["learning_rate"]


def test_what_is_in_sight_at_first_are_options(form: Form) -> None:
    assert set(FIRST) <= {option.key for option in form.options}
    drawn = (*form.options, *options(ArenaConfig))
    assert {option.key for option in drawn} >= LONG_TEXTS


def test_a_text_tells_of_what_is_pasted_and_deleted_too(form: Form) -> None:
    """Gradio's input event of a text box comes with a key that writes a letter only."""
    keys = ["run_name", "dataset", "stage", "per_device_train_batch_size"]
    assert [event.event_name for event in form.edits(keys)] == ["change", "input", "change", "input"]
    assert len(form.edits()) == len(form.components)
