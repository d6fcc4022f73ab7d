"""Components that keep themselves up to date: they ask the server for what is new, past Gradio's event queue."""

from __future__ import annotations

import secrets
import zlib
from dataclasses import asdict
from typing import Any

import gradio as gr
import msgspec

from studio.errors import RunNotFound
from studio.runs import curves as run_curves
from studio.runs import remarks as run_remarks
from studio.runs.run import Run
from studio.runs.summary import summaries
from studio.settings import ASSETS
from studio.ui import panel
from studio.ui.context import Context
from studio.ui.devices import gauges as read_gauges

WEB = ASSETS / "web"

CURVES_TEMPLATE = """<div class="curves" hidden></div>
<p class="curves-empty empty">No steps yet. The first point appears here as soon as training has begun.</p>"""

RUNS_TEMPLATE = """<p class="runs-empty empty" hidden>No runs yet. Start one in the Train tab: it will be listed here,
also after the page or the studio was closed.</p>
<table class="runs" hidden><thead><tr><th>State</th><th>Name</th><th class="narrow-hidden">Kind</th>
<th class="narrow-hidden">Model</th><th class="narrow-hidden">What</th><th>Progress</th>
<th class="narrow-hidden">Left</th><th class="narrow-hidden">Created</th></tr></thead><tbody></tbody></table>"""


def curves(ctx: Context) -> gr.HTML:
    """Live charts of the run whose id is the value."""

    def curves(asked: list[Any]) -> dict[str, Any] | None:
        run_id, cursor = asked  # several arguments arrive as one list
        try:
            run = ctx.store.get(run_id)
        except RunNotFound:
            return None
        live = run.is_active  # asked before the points: what comes after the last answer of a live run is not missed
        points = run_curves.since(run.metrics, cursor) if cursor else run_curves.overview(run.metrics)
        return {"live": live, "best": _best(run), **points}

    script = "".join((WEB / name).read_text(encoding="utf-8") for name in ("plot.js", "charts.js"))
    return gr.HTML("", html_template=CURVES_TEMPLATE, js_on_load=script, server_functions=[curves], elem_id="curves")


def notes() -> gr.HTML:
    """The place of the notes that `remarks` reads: above the curves, while the answers are below them."""
    return gr.HTML("", html_template='<div class="notes"></div>', elem_id="run-notes")


def remarks(ctx: Context) -> gr.HTML:
    """Notes of the run whose id is the value, and its answers to the sample prompts, the latest first."""

    def remarks(asked: list[Any]) -> dict[str, Any] | None:
        run_id, cursor = asked
        try:
            run = ctx.store.get(run_id)
        except RunNotFound:
            return None
        live = run.is_active
        return {"live": live, **run_remarks.since(run.metrics, cursor)}

    return panel.draw("remarks", [remarks], elem_id="run-remarks")


def runs_table(ctx: Context) -> gr.HTML:
    """All runs; the value is the id of the selected one, `select` fires when a person chooses."""

    def rows(fingerprint: str) -> dict[str, Any] | None:
        found = [asdict(summary) for summary in summaries(ctx.store)]
        now = f"{zlib.crc32(msgspec.json.encode(found)):08x}"
        return None if now == fingerprint else {"fingerprint": now, "rows": found}

    script = (WEB / "runs.js").read_text(encoding="utf-8")
    return gr.HTML("", html_template=RUNS_TEMPLATE, js_on_load=script, server_functions=[rows], elem_id="runs-table")


def strip(ctx: Context) -> gr.HTML:
    """Devices, memory and disk. A page that another studio answers comes anew: what its own knew of it is gone."""
    studio = secrets.token_hex(4)

    def gauges(_: list[Any]) -> dict[str, Any]:
        return {"studio": studio, "items": [asdict(gauge) for gauge in read_gauges(ctx.settings.saves_dir)]}

    script = (WEB / "strip.js").read_text(encoding="utf-8")
    template = '<div class="strip" role="status" aria-label="Devices"></div>'
    return gr.HTML("", html_template=template, js_on_load=script, server_functions=[gauges], elem_id="strip")


def _best(run: Run) -> dict[str, Any] | None:
    """Which validation the output is of, where the best one was kept: its step, metric and value."""
    result = run.result
    if "best_step" not in result:
        return None
    return {name: result.get(f"best_{name}") for name in ("step", "metric", "value")}
