"""The Benchmark page: how fast a model answers, served in several ways; set up, watched and compared here."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from studio.config import load
from studio.config.bench import KNOWN, BenchConfig
from studio.config.command import command
from studio.errors import ConfigError, RunNotFound
from studio.files import read_record
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.summary import of as summary_of
from studio.serving.benchmark.report import name_of
from studio.ui import choices, panel
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw
from studio.ui.looks import Look
from studio.ui.panel import QUIET, Answer
from studio.ui.text import said

DOUBLE_CLICK_S = 3.0


def build(ctx: Context, tab: gr.Tab) -> None:
    """Draw the page and wire it; `tab` is the page's own."""
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=3, min_width=320):
            form = draw(BenchConfig, _offers(ctx), ("bench",), prefix="bench", first=FIRST)
        with gr.Column(scale=2, min_width=300, elem_classes="sticky"):
            verdict = gr.Markdown(elem_id="bench-verdict")
            start = gr.Button(said("Measure", "开始测量"), variant="primary", elem_id="bench-start")
            with gr.Accordion(said("As a command", "等价命令"), open=False):
                shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)
            chosen = gr.Dropdown(
                [], label=said("Benchmarks, newest first", "测试记录（最新在前）"), elem_id="bench-runs"
            )
    seen = _results(ctx)

    fields, told = list(form.components), [verdict, shell, start]
    Look().on([*(field.change for field in fields), tab.select], partial(on_change, form), fields, told)
    tab.select(partial(on_open, ctx), chosen, [form.component("model_name_or_path"), chosen], **QUIET)
    start.click(partial(on_start, ctx, form), fields, chosen, api_name="start_bench", show_progress="hidden")
    chosen.change(lambda run_id: run_id or "", chosen, seen, **QUIET)


def on_open(ctx: Context, chosen: str | None) -> tuple[Any, Any]:
    """Offer what exists now; the newest benchmark, unless another is chosen."""
    found = _benchmarks(ctx)
    ids = [run_id for _, run_id in found]
    value = chosen if chosen in ids else next(iter(ids), None)
    return gr.update(choices=_offers(ctx)["model_name_or_path"]), gr.update(choices=found, value=value)


def on_change(form: Form, *values: Any) -> tuple[str, str, Any]:
    """What is wrong or will happen, the command, the button."""
    try:
        config = load.parse(BenchConfig, form.read(values))
    except ConfigError as error:
        lines = "\n".join(f"- **{problem.where}**: {problem.what}" for problem in error.problems)
        return f"### Not ready\n{lines}", "", gr.update(interactive=False)
    return _plan(config), command(config), gr.update(interactive=True)


@shown
def on_start(ctx: Context, form: Form, *values: Any) -> Any:
    """Create the benchmark, start it, show it. A double click gets the run that its first half started."""
    config = load.parse(BenchConfig, form.read(values))
    run = launchers.begin(ctx.store, config, twin_within_s=DOUBLE_CLICK_S)
    return gr.update(choices=_benchmarks(ctx), value=run.id)


def on_results(ctx: Context, run_id: str, known: str) -> Answer:
    """All about a benchmark that the page does not have yet; `known` is the stamp of what it has."""
    run = _find(ctx, run_id)
    return panel.unless_known(known, _told(run) if run else {"state": "none"})


def _results(ctx: Context) -> gr.HTML:
    def results(asked: list[str]) -> Answer:
        return on_results(ctx, *asked)

    def stop(run_id: str) -> None:
        ctx.store.get(run_id).stop()

    return panel.draw("bench", [results, stop], shared=("plot",), elem_id="bench-results")


def _told(run: Run) -> dict[str, Any]:
    summary = summary_of(run)
    return {
        "state": summary.state,
        "active": run.is_active,
        "name": summary.name,
        "id": run.id,
        "progress": summary.progress,
        "message": summary.message,
        "eta_s": summary.eta_s,
        "results": read_record(run.path / "results.json"),
        "report": _text(run),
    }


def _text(run: Run) -> str:
    try:
        return (run.path / "report.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _plan(config: BenchConfig) -> str:
    """How much there is to measure."""
    loads = len(config.concurrency) * len(config.prompt_tokens) * len(config.output_tokens)
    count = len(config.variants) * loads * config.repeats
    minutes = count * config.limit_s / 60
    return (
        f"### Ready\nWays to answer: {len(config.variants)}, loads: {loads}, repeats: {config.repeats}. **{count} "
        f"measurements**, at most about {minutes:.0f} min and the starts of the servers. Whatever else this machine "
        "does slows them: let it rest meanwhile."
    )


def _offers(ctx: Context) -> dict[str, list[Any]]:
    return {"model_name_or_path": choices.base_models(ctx), "variants": VARIANTS}


def _benchmarks(ctx: Context) -> list[tuple[str, str]]:
    """(label, id) of every benchmark, newest first."""
    return [(f"{run.name} · {run.created:%d %b %Y, %H:%M:%S}", run.id) for run in ctx.store.list("bench")]


def _find(ctx: Context, run_id: str) -> Run | None:
    try:
        return ctx.store.get(run_id) if run_id else None
    except RunNotFound:
        return None


VARIANTS = [(name_of(name), name) for name in KNOWN]
FIRST = ("model_name_or_path", "variants", "concurrency", "prompt_tokens", "output_tokens")
