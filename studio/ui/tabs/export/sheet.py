"""One sub-page of the Export tab: the form of a kind of export, what would come of it, and what came of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio import templates
from studio.config import load
from studio.config.command import command
from studio.config.gguf import OUTTYPES
from studio.config.load import RunConfig
from studio.config.option import options
from studio.errors import ConfigError
from studio.exports import names
from studio.exports.plan import Plan, free_bytes, size
from studio.runs import launchers, outputs
from studio.runs.outputs import Output
from studio.ui import choices
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw
from studio.ui.panel import LATEST, QUIET
from studio.ui.tabs.export import results
from studio.ui.tabs.export.kinds import Kind
from studio.ui.text import said

DOUBLE_CLICK_S = 3.0
MODELS = ("model_name_or_path", "tuned_model_name_or_path")
ADAPTERS = "adapter_name_or_path"
DATASETS = ("export_quantization_dataset", "eval_dataset")


@dataclass(frozen=True)
class Sheet:
    """What was drawn of one kind; `results` holds the id of the run that is looked at."""

    kind: Kind
    form: Form
    results: gr.HTML

    @property
    def subject(self) -> gr.components.Component:
        """The picker of what is worked on."""
        return self.form.component(self.kind.subject)

    @property
    def pickers(self) -> list[gr.components.Component]:
        """The widgets that offer what is on this machine, as `on_open` updates them."""
        return [self.form.component(key) for key in _picked(self.kind)]


def build(ctx: Context, kind: Kind) -> Sheet:
    """Draw the sub-page and wire what happens within it."""
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=3, min_width=320):
            form = draw(kind.config, offers(ctx, kind), kind.groups, prefix=kind.prefix)
        with gr.Column(scale=2, min_width=300, elem_classes="sticky"):
            verdict = gr.Markdown(said(*kind.need), elem_id=f"{kind.prefix}-verdict", elem_classes="export-verdict")
            start_id = f"{kind.prefix}-start"
            start = gr.Button(said(*kind.verb), variant="primary", elem_id=start_id, interactive=False)
            with gr.Accordion(said("As a command", "等价命令"), open=False):
                shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)
            with gr.Accordion(said("As YAML", "YAML"), open=False):
                yaml = gr.Code(language="yaml", interactive=False, show_label=False)
    sheet = Sheet(kind, form, results.draw(ctx, kind))
    _wire(ctx, sheet, [verdict, shell, yaml, start], start)
    return sheet


def on_open(ctx: Context, kind: Kind, subject: Any) -> list[Any]:
    """Offer what exists now; the newest to work on is proposed, unless something is chosen."""
    offered = offers(ctx, kind)
    updates = {key: gr.update(choices=found) for key, found in offered.items()}
    newest = _newest(ctx, kind) if kind.proposes and not subject else None
    if newest:
        updates[kind.subject] = gr.update(choices=offered[kind.subject], value=kind.holds(newest))
    return list(updates.values())


def on_subject(ctx: Context, kind: Kind, subject: Any) -> str:
    """A name for what will come out of the chosen subject."""
    picked = [str(each) for each in (subject if isinstance(subject, list) else [subject]) if each]
    offered = list(_offered(ctx, kind, kind.subject))
    labels = [choices.label_of(offered, each).partition(" · ")[0] for each in picked]
    return kind.called.format("+".join(labels)) if labels else ""


def on_change(ctx: Context, kind: Kind, form: Form, *values: Any) -> tuple[str, str, str, Any]:
    """Everything that follows from the form: what is wrong or will happen, the command, the YAML, the button."""
    try:
        config, plan = _asked(ctx, kind, form, values)
    except ConfigError as error:
        return _objection(kind, form.read(values), error), "", "", gr.update(interactive=False)
    return _verdict(ctx, plan), command(config), load.dump(config), gr.update(interactive=True)


@shown
def on_start(ctx: Context, kind: Kind, form: Form, *values: Any) -> str:
    """Create the run and start it; its id. A double click gets the run that its first half started."""
    config, _ = _asked(ctx, kind, form, values)
    return launchers.begin(ctx.store, config, twin_within_s=DOUBLE_CLICK_S).id


def offers(ctx: Context, kind: Kind) -> dict[str, Sequence[Any]]:
    """What the form offers for its options, beside free text."""
    return {key: _offered(ctx, kind, key) for key in _picked(kind)}


def _wire(ctx: Context, sheet: Sheet, told: list[Any], start: gr.Button) -> None:
    kind, form, fields = sheet.kind, sheet.form, list(sheet.form.components)
    gr.on(
        [field.change for field in fields], partial(on_change, ctx, kind, form), fields, told, **LATEST
    )  # fmt: skip
    if form.controlling:
        controlling = [form.component(key) for key in form.controlling]
        gr.on(form.edits(form.controlling), partial(_on_shift, form), controlling, form.shifting, **LATEST)
    if kind.called:
        name = form.component("run_name")
        sheet.subject.change(partial(on_subject, ctx, kind), sheet.subject, name, **QUIET)
    start.click(partial(on_start, ctx, kind, form), fields, sheet.results, api_name=f"start_{kind.name}")


def _on_shift(form: Form, *values: Any) -> list[Any]:
    return form.visible(values)


def _asked(ctx: Context, kind: Kind, form: Form, values: Sequence[Any]) -> tuple[RunConfig, Plan]:
    given = form.read(values)
    if kind.called and "run_name" not in given:  # the proposal may be still on its way
        given["run_name"] = on_subject(ctx, kind, given.get(kind.subject)) or None
    if "dataset_dir" in kind.config.model_fields:
        given["dataset_dir"] = str(ctx.registry.data_dir)
    config = names.settled(load.parse(kind.config, given))
    return config, kind.plan(ctx.store, config)


def _objection(kind: Kind, given: Mapping[str, Any], error: ConfigError) -> str:
    """What is wrong; where nothing is chosen yet, what to do first."""
    if not any(given.get(key) for key in (*MODELS, ADAPTERS)):
        return kind.need[0]
    return "\n".join(["### Not ready", *(f"- **{problem.where}**: {problem.what}" for problem in error.problems)])


def _verdict(ctx: Context, plan: Plan) -> str:
    room = [f"{size(free_bytes(ctx.store.saves))} are free"] if plan.bytes else []
    lines = [*plan.lines, *room, *(f"⚠ {warning}" for warning in plan.warnings)]
    return "\n".join([f"### Ready\n{plan.title}\n", *(f"- {line}" for line in lines)])


def _picked(kind: Kind) -> list[str]:
    keys = (*MODELS, *DATASETS, ADAPTERS, "template", "outtype")
    return [option.key for option in options(kind.config) if option.key in keys and option.kind != "choice"]


def _offered(ctx: Context, kind: Kind, key: str) -> Sequence[Any]:
    if key == kind.subject and kind.by_run:
        return choices.finished(ctx)
    if key in MODELS:
        return choices.base_models(ctx)
    if key in DATASETS:
        return choices.datasets(ctx)
    if key == "outtype":
        return OUTTYPES
    if key == ADAPTERS:
        return [*choices.adapters(ctx), *(choices.checkpoints(ctx) if kind.name == "adapter" else [])]
    return templates.names()


def _newest(ctx: Context, kind: Kind) -> Output | None:
    """What was made last of what the subject takes; what was made smaller is no good start for more."""
    made = outputs.adapters(ctx.store) if kind.subject == ADAPTERS else outputs.models(ctx.store)
    return next((each for each in made if each.run.kind != "quantize"), None)
