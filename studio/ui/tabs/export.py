"""The Export tab: an adapter folded into its base with one click, watched here, checked, and taken to the chat."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from studio import models
from studio.config import load
from studio.config.command import command
from studio.config.merge import MergeConfig
from studio.errors import ConfigError, ModelError, Problem, RunNotFound
from studio.files import folder_bytes, read_record
from studio.models import AdapterInfo, ModelInfo
from studio.runs import launchers, outputs
from studio.runs.run import ACTIVE, Run
from studio.runs.summary import of as summary_of
from studio.ui import cards, choices
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw
from studio.ui.text import said

POLL_S = 1.0
DOUBLE_CLICK_S = 3.0
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
NO_MERGES = '<p class="empty">Nothing was merged yet. Choose an adapter above and press Merge.</p>'
NO_ADAPTER = (
    "### Nothing to merge yet\nTrain a LoRA in the Train tab, or type the folder of an adapter.",
    "### 还没有可合并的适配器\n请先在训练页训练一个 LoRA，或填写适配器文件夹。",
)
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
STORED_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
GB = 1e9


@dataclass(frozen=True)
class ExportTab:
    """What other tabs listen to or change.

    `started` holds the id of the merge that was started last; `chat` carries the folder in `model` to the Chat tab.
    """

    adapter: gr.components.Component
    started: gr.State
    chat: gr.Button
    model: gr.State


@dataclass(frozen=True)
class Plan:
    """What a merge will read and write. `base` is None where the base is not on this machine."""

    adapter: AdapterInfo
    base_name: str
    base: ModelInfo | None
    bytes: int | None
    free_bytes: int


def build(ctx: Context, tab: gr.Tab) -> ExportTab:
    """Draw the tab and wire it."""
    started, model, seen = gr.State(""), gr.State(""), gr.State("")
    timer = gr.Timer(POLL_S, active=False)
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=3, min_width=320):
            form = draw(MergeConfig, _offers(ctx), ("merge",), prefix="export")
        with gr.Column(scale=2, min_width=300, elem_classes="sticky"):
            verdict = gr.Markdown(said(*NO_ADAPTER), elem_id="export-verdict")
            start = gr.Button(said("Merge", "合并"), variant="primary", elem_id="export-start", interactive=False)
            with gr.Accordion(said("As a command", "等价命令"), open=False):
                shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)
            with gr.Accordion(said("As YAML", "YAML"), open=False):
                yaml = gr.Code(language="yaml", interactive=False, show_label=False)
    chosen = gr.Dropdown([], label=said("Merges, newest first", "合并记录（最新在前）"), elem_id="export-merges")
    with gr.Row(elem_classes="actions"):
        chat_label = said("Chat with the merged model", "与合并后的模型对话")
        chat = gr.Button(chat_label, size="sm", visible=False, elem_id="export-chat", min_width=200)
        stop = gr.Button(said("Stop", "停止"), size="sm", visible=False, elem_id="export-stop", min_width=90)
    status = gr.HTML(NO_MERGES, elem_id="export-status")

    fields, adapter = list(form.components), form.component("adapter_name_or_path")
    base, name = form.component("model_name_or_path"), form.component("run_name")
    ticking = [seen, status, chat, stop, model, timer]
    gr.on(
        [field.change for field in fields], partial(on_change, ctx, form), fields, [verdict, shell, yaml, start],
        trigger_mode="always_last", **QUIET,
    )  # fmt: skip
    adapter.change(partial(on_adapter, ctx), adapter, [base, name], **QUIET)
    tab.select(partial(on_open, ctx), [adapter, chosen], [adapter, base, chosen], **QUIET)
    start.click(partial(on_start, ctx, form), fields, started, api_name="start_merge").then(
        partial(on_started, ctx), started, chosen, **QUIET
    )
    chosen.change(partial(on_select, ctx), chosen, ticking, **QUIET)
    timer.tick(partial(on_tick, ctx), [chosen, seen], ticking, **QUIET)
    stop.click(partial(on_stop, ctx), chosen, None, api_name="stop_merge")
    return ExportTab(adapter, started, chat, model)


def on_open(ctx: Context, adapter: str | None, chosen: str | None) -> tuple[Any, Any, Any]:
    """Offer what exists now; the newest adapter and the newest merge, unless others are chosen."""
    offers, merges = _offers(ctx), _merges(ctx)
    adapters, ids = offers["adapter_name_or_path"], [run_id for _, run_id in merges]
    return (
        gr.update(choices=adapters, value=adapter or (adapters[0][1] if adapters else "")),
        gr.update(choices=offers["model_name_or_path"]),
        gr.update(choices=merges, value=chosen if chosen in ids else next(iter(ids), None)),
    )


def on_adapter(ctx: Context, name: str | None) -> tuple[Any, Any]:
    """The base that the chosen adapter belongs to, and a name for what will come out."""
    try:
        adapter = outputs.adapter_of(ctx.store, name or "")
    except ModelError:
        return "", ""
    label, _, _ = choices.label_of(choices.adapters(ctx), str(adapter.path)).partition(" · ")
    return models.display_name(adapter.base), f"{label}-merged"


def on_change(ctx: Context, form: Form, *values: Any) -> tuple[str, str, str, Any]:
    """Everything that follows from the form: what is wrong or will happen, the command, the YAML, the button."""
    try:
        config = load.parse(MergeConfig, form.read(values))
        plan = _plan(ctx, config)
    except ConfigError as error:
        return _problems(error.problems), "", "", gr.update(interactive=False)
    return _verdict(ctx, config, plan), command(config), load.dump(config), gr.update(interactive=True)


@shown
def on_start(ctx: Context, form: Form, *values: Any) -> str:
    """Create the merge and start it. A double click gets the run that its first half started."""
    config = load.parse(MergeConfig, form.read(values))
    plan = _plan(ctx, config)
    config = config.model_copy(update={"adapter_name_or_path": str(plan.adapter.path)})
    return launchers.begin(ctx.store, config, twin_within_s=DOUBLE_CLICK_S).id


def on_started(ctx: Context, run_id: str) -> Any:
    """Show the merge that was just started."""
    return gr.update(choices=_merges(ctx), value=run_id) if run_id else gr.skip()


def on_select(ctx: Context, run_id: str | None) -> list[Any]:
    """Everything about a merge that was just chosen, and a clock while it runs."""
    run = _find(ctx, run_id)
    if run is None:
        hidden = gr.update(visible=False)
        return ["", NO_MERGES, hidden, hidden, "", gr.Timer(active=False)]
    return _view(run)


def on_tick(ctx: Context, run_id: str | None, seen: str) -> list[Any]:
    """What changed about the chosen merge since the last look."""
    run = _find(ctx, run_id)
    if run is not None and _fingerprint(run) == seen:
        return [gr.skip()] * 6
    return on_select(ctx, run_id)


@shown
def on_stop(ctx: Context, run_id: str) -> None:
    """Ask the merge to stop. Nothing half-written stays behind."""
    ctx.store.get(run_id).stop()


def _offers(ctx: Context) -> dict[str, list[Any]]:
    return {"adapter_name_or_path": choices.adapters(ctx), "model_name_or_path": choices.base_models(ctx)}


def _merges(ctx: Context) -> list[tuple[str, str]]:
    """(label, id) of every merge, newest first."""
    runs = ctx.store.list("merge")
    return [(f"{summary_of(run).name} · {run.created:%d %b %Y, %H:%M:%S}", run.id) for run in runs]


def _find(ctx: Context, run_id: str | None) -> Run | None:
    try:
        return ctx.store.get(run_id) if run_id else None
    except RunNotFound:
        return None


def _plan(ctx: Context, config: MergeConfig) -> Plan:
    """What `config` will do.

    Raises:
        ConfigError: it cannot be done: a damaged adapter or base, or too small a disk.
    """
    try:
        adapter = outputs.adapter_of(ctx.store, config.adapter_name_or_path)
    except ModelError as error:
        raise ConfigError([Problem("adapter_name_or_path", str(error))]) from error
    name = models.resolve(config.model_name_or_path or adapter.base)
    try:
        base = models.check(Path(name)) if models.is_local(name) else None
    except ModelError as error:
        raise ConfigError([Problem("model_name_or_path", str(error))]) from error
    written = base.parameters * _bytes_each(config, base) if base else None
    plan = Plan(adapter, name, base, written, _free_bytes(ctx.store.saves))
    if written is not None and written > plan.free_bytes:
        what = f"{_size(written)} will be written and {_size(plan.free_bytes)} are free in {ctx.store.saves}"
        raise ConfigError([Problem("disk", f"{what}: make room first")])
    return plan


def _bytes_each(config: MergeConfig, base: ModelInfo) -> int:
    return WEIGHT_BYTES.get(config.export_dtype) or STORED_BYTES.get(base.dtype, 4)


def _free_bytes(saves: Path) -> int:
    return shutil.disk_usage(next(folder for folder in (saves, *saves.parents) if folder.exists())).free


def _problems(problems: tuple[Problem, ...]) -> str:
    lines = "\n".join(f"- **{problem.where}**: {problem.what}" for problem in problems)
    return f"### Not ready\n{lines}"


def _verdict(ctx: Context, config: MergeConfig, plan: Plan) -> str:
    size = f"about {_size(plan.bytes)}" if plan.bytes is not None else "a model of the size of its base"
    about = f", {plan.base.parameters / 1e6:,.1f} M parameters" if plan.base else " (not on this machine yet)"
    return (
        f"### Ready\nLoRA of rank {plan.adapter.rank} into **{models.display_name(plan.base_name)}**{about}\n\n"
        f"Writes {size} to `{ctx.store.saves}/…/model`; {_size(plan.free_bytes)} are free"
    )


def _fingerprint(run: Run) -> str:
    """Changes when anything that is shown may have changed."""
    names = ("status.json", "exit.json", "result.json", "report.json", "error.json", "CLAIM", "STOP")
    stamps = [(run.path / name).stat().st_mtime_ns for name in names if (run.path / name).exists()]
    return f"{run.id}:{run.state}:{stamps}"


def _view(run: Run) -> list[Any]:
    fingerprint, active, output = _fingerprint(run), run.state in ACTIVE, run.output
    return [
        fingerprint,
        "".join(_status(run)),
        gr.update(visible=output is not None),
        gr.update(visible=active),
        str(output or ""),
        gr.Timer(active=active),
    ]


def _status(run: Run) -> Iterator[str]:
    summary = summary_of(run)
    yield cards.head(summary) + cards.bar(summary) + cards.failure(run, summary)
    if run.output:
        where = f"<code>{escape(str(run.output))}</code>"
        yield f'<div class="card good"><p>The merged model, {_size(folder_bytes(run.output))}:</p><p>{where}</p></div>'
    if report := read_record(run.path / "report.json"):
        yield _proof(report)


def _proof(report: Mapping[str, Any]) -> str:
    """How close the merged model is to base plus adapter: figures, then the answers that were compared."""
    answers = report["answers"]
    lines = [
        ("Same greedy answers", f"{report['same_answers']} of {len(answers)}"),
        ("KL divergence, nats a token", f"{report['kl']:.2e}"),
        ("… of the base alone, for comparison", f"{report['kl_base']:.2e}"),
        ("Largest logit difference", f"{report['max_difference']:.2e}"),
        ("Mean logit difference", f"{report['mean_difference']:.2e}"),
        ("Computed in", report["computed_in"]),
    ]
    table = "".join(f"<tr><th>{label}</th><td>{escape(figure)}</td></tr>" for label, figure in lines)
    told = "".join(map(_answer, answers))
    figures = f'<table class="figures-table">{table}</table>'
    return f'<h4>Compared with base and adapter</h4><div class="proof"><div>{figures}</div><div>{told}</div></div>'


def _answer(answer: Mapping[str, str]) -> str:
    question = f'<div class="turn user"><b>user</b>{escape(answer["prompt"])}</div>'
    if answer["adapter"] == answer["merged"]:
        return f'{question}<div class="turn assistant"><b>adapter and merged</b>{escape(answer["merged"])}</div>'
    live = f'<div class="turn assistant"><b>base and adapter</b>{escape(answer["adapter"])}</div>'
    merged = f'<div class="turn rejected"><b>merged</b>{escape(answer["merged"])}</div>'
    return f'{question}<div class="pair">{live}{merged}</div>'


def _size(count: float) -> str:
    unit, divisor = next((pair for pair in (("GB", GB), ("MB", 1e6)) if count >= pair[1]), ("kB", 1e3))
    return f"{count / divisor:.3g} {unit}"
