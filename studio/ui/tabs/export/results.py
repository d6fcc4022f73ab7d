"""What came of the exports of one kind: a list, how far the chosen one is, its report, and where its result can go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from studio.errors import RunNotFound
from studio.exports import report
from studio.exports.plan import size
from studio.files import folder_bytes, tail
from studio.runs.run import ACTIVE, Run, State
from studio.runs.summary import of as summary_of
from studio.runs.summary import summaries
from studio.ui import downloads, panel
from studio.ui.cards import FAILURES
from studio.ui.context import Context
from studio.ui.panel import Answer
from studio.ui.tabs.export.kinds import Kind

LISTED_MAX = 12
LOG_BYTES = 16_000
# where the result of a kind can be taken
TAKEN = {
    "merge": ("chat", "gguf", "ollama", "quantize", "push"),
    "gguf": ("push",),
    "ollama": ("push",),
    "quantize": ("chat", "push"),
    "adapter": ("chat", "merge", "adapter", "push"),
}


def draw(ctx: Context, kind: Kind) -> gr.HTML:
    """The panel; its value is the id of the run that is looked at, the newest where it is empty.

    `select` fires when a person takes a result elsewhere, with its `run` and where `to`: chat, or a kind of export.
    """

    def look(asked: list[str]) -> Answer:
        return on_look(ctx, kind, *asked)

    def stop(run_id: str) -> None:
        ctx.store.get(run_id).stop()

    def delete(run_id: str) -> None:
        ctx.store.trash(ctx.store.get(run_id))

    def restore(run_id: str) -> None:
        ctx.store.restore(run_id)

    def read(run_id: str) -> Answer:
        return on_read(ctx, run_id)

    return panel.draw(
        "exports", [look, stop, delete, restore, read], shared=("plot", "exports_report"),
        elem_id=f"{kind.prefix}-status", elem_classes="exports",
    )  # fmt: skip


def on_look(ctx: Context, kind: Kind, run_id: str, known: str) -> Answer:
    """All about the runs of a kind that the page does not have yet; `known` is the stamp of what it has."""
    listed = [each for each in summaries(ctx.store) if each.kind == kind.name]
    chosen = _find(ctx, run_id) or next((ctx.store.get(each.id) for each in listed), None)
    runs = [{key: getattr(each, key) for key in ("id", "name", "state", "created")} for each in listed[:LISTED_MAX]]
    told = {"prefix": kind.prefix, "none": list(kind.none), "runs": runs, "chosen": _told(chosen) if chosen else None}
    return panel.unless_known(known, told)


def on_read(ctx: Context, run_id: str) -> Answer:
    """The texts of a run: the end of its log, and its report as Markdown."""
    run = ctx.store.get(run_id)
    page = run.path / "report.md"
    return {"log": tail(run.log, LOG_BYTES), "report": page.read_text(encoding="utf-8") if page.exists() else ""}


def _told(run: Run) -> dict[str, Any]:
    summary, found = summary_of(run), report.read(run.path)
    state = State(summary.state)
    return {
        **{key: getattr(summary, key) for key in ("id", "name", "state", "created", "progress", "message", "eta_s")},
        "active": state in ACTIVE,
        "failure": run.reason if state in FAILURES else "",
        "result": _result(run, run.output) if run.output else None,
        "url": str(run.result.get("url", "")),
        "quarantine": _quarantine(run, found),
        "report": asdict(found) | {"facts": {}} if found else None,
    }


def _result(run: Run, output: Path) -> dict[str, Any]:
    """The folder that came out, and where it can be taken. What lies outside the run is not ours to hand out."""
    there = output.is_dir()
    return {
        "path": str(output),
        "size": size(folder_bytes(output)) if there else "",
        "there": there,
        "takes": TAKEN[run.kind] if there else (),
        "download": downloads.url(run) if downloads.result_of(run) else "",
    }


def _quarantine(run: Run, found: report.Report | None) -> dict[str, str] | None:
    """A result that failed its proof: it is told, and never an output."""
    named = found.facts.get("quarantine") if found else None
    folder = Path(str(named)) if named else run.path / "quarantine"
    return {"path": str(folder), "size": size(folder_bytes(folder))} if folder.is_dir() else None


def _find(ctx: Context, run_id: str) -> Run | None:
    try:
        return ctx.store.get(run_id) if run_id else None
    except RunNotFound:
        return None
