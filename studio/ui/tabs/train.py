"""The Train tab: a form drawn from the configuration, checked and planned as it is filled, started once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio import planning, preflight
from studio.config import load
from studio.config.command import command
from studio.config.llamafactory import TRANSLATED
from studio.config.train import TrainConfig
from studio.errors import ConfigError, Problem, RunError
from studio.parallel import accelerate
from studio.planning.advice import sentence
from studio.runs import launchers, queue
from studio.serving import neighbours
from studio.ui import choices, panel
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw
from studio.ui.looks import Look
from studio.ui.panel import LATEST, QUIET
from studio.ui.tabs import train_find, train_kept, train_outlook, train_parallel, train_servers
from studio.ui.text import said

GROUPS = (
    "model", "method", "lora", "freeze", "quantisation", "data", "preference", "reward", "optimisation", "evaluation",
    "optimizer", "precision", "parallel", "saving", "trackers", "advanced",
)  # fmt: skip
# what most people set; the rest of a section is behind its "More"
FIRST = (
    "model_name_or_path", "run_name", "stage", "finetuning_type", "quantization_bit",
    "lora_rank", "lora_alpha", "lora_target", "freeze_trainable_layers", "freeze_trainable_modules",
    "dataset", "cutoff_len", "template", "val_size",
    "pref_loss", "pref_beta", "simpo_gamma", "kto_chosen_weight", "kto_rejected_weight",
    "reward_funcs", "reward_pattern", "reward_length", "reward_model", "num_generations", "max_completion_length",
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "parallel_strategy", "nproc_per_node", "nnodes", "launcher", "offload_optimizer", "offload_param",
)  # fmt: skip
DOUBLE_CLICK_S = 3.0
BLANK = "(blank)"
# what is offered here may change while the page is open
PICKERS = ("model_name_or_path", "adapter_name_or_path", "dataset", "eval_dataset", "ref_model", "reward_model")
# options of an earlier run that belong to that run alone
OWN = frozenset({"kind", "dataset_dir", "resume_from_checkpoint", "resumed_from"})


@dataclass(frozen=True)
class TrainTab:
    """What other tabs listen to or change: `started` holds the id of the run that was started last."""

    started: gr.State
    dataset: gr.components.Component
    filling: Filling


@dataclass(frozen=True)
class Filling:
    """How the whole form is filled at once. A handler gives the name of the preset, the line above the form, then what
    `Form.fill` gives."""

    form: Form
    preset: gr.Dropdown
    told: gr.HTML
    look: Look

    def on(self, event: Callable[..., Any], handler: Callable[..., Any], inputs: Any, also: Sequence[Any] = ()) -> None:
        """Fill by `handler` at `event`, then have the form looked at as if a person had filled it. What the handler
        gives after the form goes to the components `also`."""
        # through the queue: an error of an event that goes past it never reaches the page
        outputs = [self.preset, self.told, *self.form.filled, *also]
        self.look.after(event(handler, inputs, outputs, show_progress="hidden", api_visibility="private"))


@dataclass(frozen=True)
class _Seen:
    """What the checks say of the data, what the training will take, and the model servers that are asked about."""

    outlook: preflight.Outlook
    plan: planning.Plan
    neighbours: tuple[neighbours.Neighbour, ...]


def build(ctx: Context, tab: gr.Tab, kept: gr.HTML) -> TrainTab:
    """Draw the tab and wire it; `kept` tells of a form that the browser kept."""
    started = gr.State("")
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=3, min_width=320):
            preset, upload = _loading_row()
            told = panel.draw("train_told", [], elem_classes="maybe")
            train_find.draw()
            several = train_parallel.draw()
            form = draw(TrainConfig, choices.training(ctx), GROUPS, first=FIRST, insets={"parallel": several})
        with gr.Column(scale=2, min_width=300, elem_classes="sticky"):
            outlook = train_outlook.draw()
            anyway = gr.Checkbox(False, label=said("Train anyway", "仍然训练"), visible=False, elem_id="train-anyway")
            room = train_servers.draw()
            wait = gr.Checkbox(False, label=said("Wait until running trainings are done", "等待正在进行的训练结束"))
            start = gr.Button(said("Start training", "开始训练"), variant="primary", elem_id="train-start")
            with gr.Accordion(said("As a command", "等价命令"), open=False):
                shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)
            with gr.Accordion(said("As YAML (LLaMA-Factory's keys)", "YAML（LLaMA-Factory 键名）"), open=False):
                yaml = gr.Code(language="yaml", interactive=False, show_label=False)

    checked = [outlook, anyway, room, shell, yaml, several, start]
    fields, answers = list(form.components), [anyway, room]
    look = Look()
    # as the tab is opened, too: a check of the data may have ended meanwhile
    causes = [anyway.input, room.input, *form.edits(), tab.select]
    look.on(causes, partial(on_change, ctx, form), [*answers, *fields], checked)
    controlling = [form.component(key) for key in form.controlling]
    gr.on(form.edits(form.controlling), partial(on_shift, form), controlling, form.shifting, **LATEST)
    filling = Filling(form, preset, told, look)
    filling.on(preset.input, partial(on_preset, ctx, form), [preset, form.component("dataset")])
    filling.on(upload.upload, partial(on_upload, form), upload)
    filling.on(outlook.apply, partial(on_advice, ctx, form), fields)
    _take_from(several, filling)
    _take_kept(kept, told, filling)
    tab.select(partial(on_open, ctx, form), None, [form.component(key) for key in PICKERS], **QUIET)
    start.click(partial(on_start, ctx, form), [wait, *answers, *fields], started, api_name="start_training")
    return TrainTab(started, form.component("dataset"), filling)


def on_change(
    ctx: Context, form: Form, anyway: bool, room: str | None, *values: Any
) -> tuple[str, Any, Any, str, str, str, Any]:
    """Everything that follows from the form: what is wrong or will happen, the questions whether to train anyway and
    what becomes of model servers, the command, the YAML, what is said of several devices, the button."""
    given = form.read(values)
    changed = form.changed(given)
    draft = train_kept.draft(given, changed)
    try:
        config = preflight.train_config(given, ctx.registry)
    except ConfigError as error:
        told, silent = train_outlook.problems(error, changed, draft), train_servers.question((), None)
        several = train_parallel.told(given)
        return told, _question(False), silent, "", "", several, gr.update(interactive=False)
    seen = _look(ctx, config, room)
    doubtful = bool(seen.outlook.warnings)
    told = train_outlook.ready(config, seen.outlook, seen.plan, changed, draft)
    may_start = gr.update(interactive=(anyway or not doubtful) and bool(room or not seen.neighbours))
    questions = _question(doubtful), train_servers.question(seen.neighbours, room)
    several = train_parallel.told(given, config, seen.plan.processes)
    return told, *questions, command(config), load.dump(config), several, may_start


def _take_from(several: gr.HTML, filling: Filling) -> None:
    """What a person gives on the panel of several devices, taken into the form."""
    form = filling.form
    for event, key in ((several.pick, "devices"), (several.edit, "deepspeed")):
        filling.look.after(event(_sent, None, form.component(key), **QUIET))

    def take_accelerate(event: gr.EventData, *values: Any) -> list[Any]:
        return on_accelerate(form, event.text, event.name, *values)

    filling.on(several.accelerate, take_accelerate, list(form.components))


def _take_kept(kept: gr.HTML, told: gr.HTML, filling: Filling) -> None:
    """A form that the browser kept, taken back once its page is there; the person may start afresh instead."""

    def take_kept(event: gr.EventData) -> list[Any]:
        return on_kept(filling.form, str(event.text))

    filling.on(kept.found, take_kept, None)
    filling.on(told.afresh, partial(on_afresh, filling.form), None)


def _sent(event: gr.EventData) -> str:
    """What a person gave on a panel for an option."""
    return str(event.text)


def on_shift(form: Form, *values: Any) -> list[Any]:
    """Show only the options that matter now."""
    return form.visible(values)


def on_preset(ctx: Context, form: Form, name: str, datasets: list[str]) -> list[Any]:
    """Fill the form from a shipped configuration. Datasets that were chosen before stay chosen, unless it brings one
    and cannot learn from those."""
    # it may be incomplete on purpose (no dataset yet), so it is not validated here
    values = {} if name == BLANK else dict(load.preset(name))
    own = {**values, "dataset": datasets}
    keeps = datasets and not ("dataset" in values and _misfits(ctx, own))
    return [name, "", *form.fill(own if keeps else values)]


@shown
def on_upload(form: Form, path: str) -> list[Any]:
    """Fill the form from a YAML file, LLaMA-Factory's or our own; what of it was read otherwise is told. One with
    problems leaves the form as it was."""
    with open(path, encoding="utf-8", errors="replace") as file:
        values = load.parse_yaml(file.read(), "the YAML file")
    values.pop("schema_version", None)
    try:
        config = load.parse(TrainConfig, values)
    except ConfigError as error:  # too much for a message that goes away
        return [gr.skip(), _refusal(error), *[gr.skip()] * len(form.filled)]
    return [BLANK, _reading(values, config), *form.fill(_own(config))]


@shown
def on_accelerate(form: Form, text: str, name: str, *values: Any) -> list[Any]:
    """Take strategy, processes and devices from a file that `accelerate config` wrote; the rest of the form stays."""
    given = load.parse_yaml(text, name)
    if not accelerate.is_config(given):
        raise ConfigError([Problem(name, "is not what `accelerate config` writes: it names no distributed_type")])
    found = accelerate.reading(given, name)
    if found.problems:
        raise ConfigError(found.problems)
    gr.Info(f"Taken from {escape(name)}: {escape(sentence(found.options))}")
    left = {problem.where: problem.what for problem in found.notes}
    return [gr.skip(), _card("Left out", left), *form.fill({**form.read(values), **found.options})]


def on_kept(form: Form, text: str) -> list[Any]:
    """Fill the form with what the browser kept of it; what cannot be read of that is told."""
    kept, left = train_kept.read(form, text)
    return [BLANK, train_kept.LINE + _card("Left out", left), *form.fill(kept)]


def on_afresh(form: Form) -> list[Any]:
    """Fill the form with the defaults."""
    return [BLANK, "", *form.fill({})]


@shown
def on_advice(ctx: Context, form: Form, *values: Any) -> list[Any]:
    """Change the settings to what fits into memory."""
    given = form.read(values)
    machine = planning.look(ctx.settings.saves_dir)
    verdict = _plan(ctx, preflight.train_config(given, ctx.registry), machine).verdict
    return [gr.skip(), "", *form.fill({**given, **((verdict and verdict.retry) or {})})]


@shown
def on_again(ctx: Context, form: Form, run_id: str, changed: bool) -> list[Any]:
    """Fill the form with the settings of a run; with what it should have been given instead where it is `changed`."""
    run = ctx.store.get(run_id)
    if not isinstance(run.config, TrainConfig):
        raise RunError(f"{run.name} is no training: it has no settings for this form")
    changes = planning.another_try(run, ctx.registry, planning.look(ctx.settings.saves_dir)) if changed else {}
    what = f" with <code>{escape(sentence(changes))}</code>" if changes else ""
    told = f'<div class="card"><p>The settings of <b>{escape(run.name)}</b>{what}.</p></div>'
    return [BLANK, told, *form.fill({**_own(run.config), **changes})]


def on_open(ctx: Context, form: Form) -> list[Any]:
    """Offer what exists now."""
    offers = choices.training(ctx)
    return form.offers({key: offers[key] for key in PICKERS})


@shown
def on_start(ctx: Context, form: Form, wait: bool, anyway: bool, room: str | None, *values: Any) -> str:
    """Create the run and start it. A double click gets the run that its first half started."""
    given = form.read(values) | {"dataset_dir": str(ctx.settings.data_dir)}
    config = preflight.train_config(given, ctx.registry)
    seen = _look(ctx, config, room)
    if not anyway and (warnings := seen.outlook.warnings):
        raise ConfigError([*warnings, Problem("Train anyway", "tick it if that is as it should be")])
    train_servers.make_room(seen.neighbours, room)
    run = launchers.begin(ctx.store, config, wait, twin_within_s=DOUBLE_CLICK_S)
    if not wait and queue.ahead(run.path):
        gr.Info("Another training is running on this machine: both will be slower.")
    return run.id


def _look(ctx: Context, config: TrainConfig, room: str | None) -> _Seen:
    """What is to be seen before a start; that the training is too much for this machine is one more warning."""
    found, machine = preflight.outlook(config, ctx.registry), planning.look(ctx.settings.saves_dir)
    plan = _plan(ctx, config, machine)
    near = neighbours.in_the_way(ctx.store, machine, plan.verdict.memory.total_gb if plan.verdict else None)
    if freed_gb := train_servers.freed_gb(near, room):
        plan = _plan(ctx, config, machine.without(freed_gb))
    if plan.verdict and not plan.verdict.fits:
        found = replace(found, warnings=(*found.warnings, Problem("memory", plan.verdict.words)))
    return _Seen(found, plan, near)


def _plan(ctx: Context, config: TrainConfig, machine: planning.Machine) -> planning.Plan:
    return planning.plan(config, ctx.registry, machine, ctx.store)


def _own(config: TrainConfig) -> dict[str, Any]:
    """The settings of a configuration that another training can have too."""
    return config.model_dump(exclude=set(OWN))


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


def _misfits(ctx: Context, values: Mapping[str, Any]) -> bool:
    """Whether a training with `values` is refused for its datasets."""
    try:
        preflight.train_config(values, ctx.registry)
    except ConfigError as error:
        return any(problem.where == "dataset" for problem in error.problems)
    return False


def _question(doubtful: bool) -> Any:
    """Whether to train on doubtful data is asked while it is doubtful; no answer outlives its question. One that a
    person gives during a look stays."""
    return gr.update(visible=True) if doubtful else gr.update(visible=False, value=False)


def _reading(values: Mapping[str, Any], config: TrainConfig) -> str:
    """What of a file was read in other words, and what was left out, as a card; nothing where it was taken as it is."""
    kept = config.model_dump(mode="json")
    other = {key: TRANSLATED[key].words for key in values if key in TRANSLATED and values[key] != kept.get(key)}
    left = {problem.where: problem.what for problem in load.without_effect(values)}
    return _card("Read as", other) + _card("Left out", left)


def _refusal(error: ConfigError) -> str:
    """Why nothing of a file was taken, as a card."""
    lines = [f"<li>{escape(str(problem).replace('`', ''))}</li>" for problem in error.problems]
    title = "<p>The file was not loaded; the form is as it was. Change in the file:</p>"
    return f'<div class="card bad">{title}<ul>{"".join(lines)}</ul></div>'


def _card(title: str, told: Mapping[str, str]) -> str:
    lines = [f"<li><code>{escape(key)}</code> {escape(words.replace('`', ''))}</li>" for key, words in told.items()]
    return f'<div class="card"><p>{title}</p><ul>{"".join(lines)}</ul></div>' if lines else ""
