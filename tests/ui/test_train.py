"""Handlers of the Train tab, called the way the page calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio.config import load
from studio.config.load import preset_names
from studio.config.option import split_names
from studio.config.train import TrainConfig
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs import train


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(TrainConfig, {"model_name_or_path": ["seedling"], "dataset": ["identity"]}, train.GROUPS)


def filled(form: Form, **values: Any) -> list[Any]:
    named = {"model_name": "Sprout", "model_author": "Ada"}  # which the rows ask for
    return form.write({"dataset": ["identity"], **named, "max_steps": 1, **values})


def test_all_problems_are_listed_and_start_is_off(ctx: Context, form: Form) -> None:
    values = filled(form, dataset=[], learning_rate=7, eval_steps=3)
    verdict, _, shell, yaml, button = train.on_change(ctx, form, False, *values)
    assert all(f"**{key}**" in verdict for key in ("dataset", "learning_rate", "eval_steps"))
    assert (shell, yaml, button["interactive"]) == ("", "", False)


def test_a_good_form_shows_command_and_yaml(ctx: Context, form: Form) -> None:
    verdict, question, shell, yaml, button = train.on_change(ctx, form, False, *filled(form))
    assert verdict.startswith("### Ready")
    assert question["visible"] is False
    assert "python -m studio train" in shell
    assert "dataset=identity" in shell
    assert "learning_rate: 0.0002" in yaml
    assert button["interactive"] is True


def test_double_click_starts_one_run(ctx: Context, form: Form) -> None:
    values = filled(form, model_name="A", model_author="B")
    first = train.on_start(ctx, form, False, False, *values)
    second = train.on_start(ctx, form, False, False, *values)
    assert first == second
    assert [run.id for run in ctx.store.list()] == [first]
    ctx.store.get(first).stop_now()


def test_what_does_not_exist_is_named_beside_what_is_wrong(ctx: Context, form: Form, tmp_path: Path) -> None:
    values = filled(form, dataset=["nope"], model_name_or_path=str(tmp_path), learning_rate=7)
    verdict = train.on_change(ctx, form, False, *values)[0]
    assert "'nope'" in verdict
    assert "config.json" in verdict
    assert "**learning_rate**" in verdict


def test_a_bad_form_starts_nothing(ctx: Context, form: Form) -> None:
    with pytest.raises(gr.Error, match="dataset"):
        train.on_start(ctx, form, False, False, *filled(form, dataset=[]))
    assert ctx.store.list() == []


def test_doubtful_data_is_asked_about_and_then_trained_on(ctx: Context, form: Form) -> None:
    (ctx.registry.data_dir / "gaps.jsonl").write_text(
        '{"instruction": "Who?", "output": "Fern."}\n{"instruction": "What?", "output": ""}\n'
    )
    ctx.registry.path.write_text('{"gaps": {"file_name": "gaps.jsonl"}}')
    values = filled(form, dataset=["gaps"])
    verdict, question, shell, _, button = train.on_change(ctx, form, False, *values)
    assert "**gaps**: Fields that are empty (1)" in verdict
    assert (question["visible"], button["interactive"]) == (True, False)
    assert "dataset=gaps" in shell
    with pytest.raises(gr.Error, match="Train anyway"):
        train.on_start(ctx, form, False, False, *values)
    assert ctx.store.list() == []
    assert train.on_change(ctx, form, True, *values)[-1]["interactive"] is True
    run = ctx.store.get(train.on_start(ctx, form, False, True, *values))
    run.stop_now()


@pytest.mark.parametrize("name", preset_names())
def test_presets_fill_the_form(form: Form, name: str) -> None:
    named = dict(zip((option.key for option in form.options), train.on_preset(form, name, []), strict=True))
    assert named["dataset"] == list(split_names(load.preset(name).get("dataset", "")))
    kept = dict(zip((option.key for option in form.options), train.on_preset(form, name, ["mine"]), strict=True))
    assert kept["dataset"] == ["mine"]


def test_yaml_of_llama_factory_fills_the_form(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "lf.yaml"
    path.write_text(
        "stage: sft\ndataset: identity,alpaca_demo\nlora_rank: 16\nlearning_rate: 1.0e-4\noutput_dir: saves/x/y\n"
    )
    values = dict(zip((option.key for option in form.options), train.on_upload(form, str(path)), strict=True))
    assert values["dataset"] == ["identity", "alpaca_demo"]
    assert values["lora_rank"] == 16
    assert values["run_name"] == "y"


def test_broken_yaml_names_the_line(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("stage: sft\ndataset: [a, b\nlora_rank: 3\n")
    with pytest.raises(gr.Error, match="line 3"):
        train.on_upload(form, str(path))
