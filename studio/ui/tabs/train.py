"""The Train tab: a form drawn from the configuration, checked as it is typed, started once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio import preflight
from studio.config import load
from studio.config.command import command
from studio.config.train import TrainConfig
from studio.errors import ConfigError, Problem
from studio.runs import launchers, queue
from studio.ui import choices
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw
from studio.ui.text import said

GROUPS = (
    "model", "method", "lora", "freeze", "quantisation", "preference", "reward", "data", "optimisation", "optimizer",
    "precision", "evaluation", "saving", "trackers", "advanced",
)  # fmt: skip
DOUBLE_CLICK_S = 3.0
BLANK = "(blank)"
# what is offered here may change while the page is open
PICKERS = ("model_name_or_path", "dataset", "eval_dataset")


@dataclass(frozen=True)
class TrainTab:
    """What other tabs listen to: `started` holds the id of the run that was started last."""

    started: gr.State
    dataset: gr.components.Component


def build(ctx: Context, tab: gr.Tab) -> TrainTab:
    """Draw the tab and wire it."""
    started = gr.State("")
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=3, min_width=320):
            preset, upload = _loading_row()
            form = draw(TrainConfig, _offers(ctx), GROUPS)
        with gr.Column(scale=2, min_width=300, elem_classes="sticky"):
            verdict = gr.Markdown(elem_id="train-verdict")
            anyway = gr.Checkbox(False, label=said("Train anyway", "仍然训练"), visible=False, elem_id="train-anyway")
            wait = gr.Checkbox(False, label=said("Wait until running trainings are done", "等待正在进行的训练结束"))
            start = gr.Button(said("Start training", "开始训练"), variant="primary", elem_id="train-start")
            with gr.Accordion(said("As a command", "等价命令"), open=False):
                shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)
            with gr.Accordion(said("As YAML (LLaMA-Factory's keys)", "YAML（LLaMA-Factory 键名）"), open=False):
                yaml = gr.Code(language="yaml", interactive=False, show_label=False)

    checked = [verdict, anyway, shell, yaml, start]
    fields = list(form.components)
    gr.on(
        [field.change for field in (anyway, *fields)], partial(on_change, ctx, form), [anyway, *fields], checked,
        queue=False, show_progress="hidden", trigger_mode="always_last", api_visibility="private",
    )  # fmt: skip
    controlling = form.component("finetuning_type")
    controlling.change(
        partial(on_method, form), fields, fields, queue=False, show_progress="hidden", api_visibility="private"
    )
    preset.change(
        partial(on_preset, form),
        [preset, form.component("dataset")],
        fields,
        show_progress="hidden",
        api_visibility="private",
    )
    upload.upload(partial(on_upload, form), upload, fields, api_visibility="private")
    tab.select(
        partial(on_open, ctx, form), [anyway, *fields], [*(form.component(key) for key in PICKERS), *checked],
        queue=False, show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    start.click(partial(on_start, ctx, form), [wait, anyway, *fields], started, api_name="start_training")
    return TrainTab(started, form.component("dataset"))


def on_change(ctx: Context, form: Form, anyway: bool, *values: Any) -> tuple[str, Any, str, str, Any]:
    """Everything that follows from the form: what is wrong or will happen, whether to train anyway is a question, the
    command, the YAML, the button."""
    try:
        config = preflight.train_config(form.read(values), ctx.registry)
    except ConfigError as error:
        return _problems(error), _question(False, False), "", "", gr.update(interactive=False)
    outlook = preflight.outlook(config, ctx.registry)
    doubtful = bool(outlook.warnings)
    ready = gr.update(interactive=anyway or not doubtful)
    return _verdict(config, outlook), _question(doubtful, anyway), command(config), load.dump(config), ready


def on_method(form: Form, *values: Any) -> list[Any]:
    """Show only the options that matter for the chosen method."""
    return form.visible(values)


def on_preset(form: Form, name: str, datasets: list[str]) -> list[Any]:
    """Fill the form from a shipped configuration; datasets that were chosen before stay chosen."""
    values = {} if name == BLANK else _typed(load.preset(name))
    return form.write({**values, "dataset": datasets} if datasets else values)


@shown
def on_upload(form: Form, path: str) -> list[Any]:
    """Fill the form from a YAML file, LLaMA-Factory's or our own."""
    with open(path, encoding="utf-8", errors="replace") as file:
        values = load.parse_yaml(file.read(), "the YAML file")
    values.pop("schema_version", None)
    for key in load.without_effect(values):
        gr.Info(f"Left out: {key}")
    return form.write(load.parse(TrainConfig, values).model_dump())


def on_open(ctx: Context, form: Form, anyway: bool, *values: Any) -> list[Any]:
    """Offer what exists now, and look again at what the datasets hold: a check may have ended meanwhile."""
    offers = _offers(ctx)
    return [*(gr.update(choices=offers[key]) for key in PICKERS), *on_change(ctx, form, anyway, *values)]


@shown
def on_start(ctx: Context, form: Form, wait: bool, anyway: bool, *values: Any) -> str:
    """Create the run and start it. A double click gets the run that its first half started."""
    given = form.read(values) | {"dataset_dir": str(ctx.settings.data_dir)}
    config = preflight.train_config(given, ctx.registry)
    if not anyway and (warnings := preflight.outlook(config, ctx.registry).warnings):
        raise ConfigError([*warnings, Problem("Train anyway", "tick it if that is as it should be")])
    run = launchers.begin(ctx.store, config, wait, twin_within_s=DOUBLE_CLICK_S)
    if not wait and queue.ahead(run.path):
        gr.Info("Another training is running on this machine: both will be slower.")
    return run.id


def _loading_row() -> tuple[gr.Dropdown, gr.UploadButton]:
    with gr.Row(elem_classes="loading-row"):
        preset = gr.Dropdown(
            [BLANK, *load.preset_names()],
            value=BLANK,
            label=said("Preset", "预设"),
            info=said("A recipe that works, to start from.", "可直接使用的起始配置。"),
            elem_id="train-preset",
            min_width=220,
        )
        upload = gr.UploadButton(
            said("Load a YAML file", "加载 YAML 文件"), file_types=[".yaml", ".yml"], size="sm", min_width=160
        )
    return preset, upload


def _offers(ctx: Context) -> dict[str, list[Any]]:
    datasets = choices.datasets(ctx)
    return {"model_name_or_path": choices.base_models(ctx), "dataset": datasets, "eval_dataset": datasets}


def _question(doubtful: bool, anyway: bool) -> Any:
    """Whether to train on doubtful data is asked while it is doubtful; no answer outlives its question."""
    return gr.update(visible=doubtful, value=anyway and doubtful)


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A preset may be incomplete on purpose (no dataset yet), so it is not validated here."""
    names = {key: values[key] for key in ("dataset", "eval_dataset", "lora_target") if isinstance(values.get(key), str)}
    return {**values, **{key: text.split(",") for key, text in names.items()}}


def _problems(error: ConfigError) -> str:
    lines = "\n".join(f"- **{problem.where}**: {problem.what}" for problem in error.problems)
    return f"### Not ready\n{lines}"


def _verdict(config: TrainConfig, outlook: preflight.Outlook) -> str:
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    length = f"{config.max_steps} steps" if config.max_steps > 0 else f"{config.num_train_epochs:g} epochs"
    method = f"LoRA, rank {config.lora_rank}" if config.finetuning_type == "lora" else "full fine-tuning"
    return (
        f"### {'Look at this first' if outlook.warnings else 'Ready'}\n{_told(outlook)}"
        f"**{config.model_name_or_path}** · {method} · {', '.join(config.dataset)}\n\n"
        f"{length}, {batch} rows a step, peak learning rate {config.learning_rate:g}"
    )


def _told(outlook: preflight.Outlook) -> str:
    """What the checks say of the data, as a list; nothing where they say nothing."""
    lines = [f"- **{warning.where}**: {warning.what}" for warning in outlook.warnings]
    lines += [f"- {note}" for note in outlook.notes]
    return "".join(f"{line}\n" for line in lines) + ("\n" if lines else "")
