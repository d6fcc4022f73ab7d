"""The sub-pages of the Export tab, in tabs of their own, and the ways from a result to where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import RunError
from studio.runs.outputs import Output
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.panel import QUIET
from studio.ui.tabs.export import sheet
from studio.ui.tabs.export.kinds import KINDS, Kind
from studio.ui.tabs.export.sheet import Sheet
from studio.ui.text import said


@dataclass(frozen=True)
class ExportTab:
    """What other tabs listen to or change: `pages` are the tabs of the sub-pages, called as their kinds of run."""

    pages: gr.Tabs
    sheets: tuple[Sheet, ...]

    @property
    def subjects(self) -> list[Component]:
        """The picker of each sub-page that holds what is worked on."""
        return [each.subject for each in self.sheets]


def build(ctx: Context, tab: gr.Tab) -> ExportTab:
    """Draw every sub-page; `tab` is the one that holds them all."""
    sheets: list[Sheet] = []
    inners: list[gr.Tab] = []
    with gr.Tabs(elem_id="export-tabs") as pages:
        for kind in KINDS:
            with gr.Tab(said(*kind.title), id=kind.name, elem_id=f"export-tab-{kind.name}") as inner:
                drawn = sheet.build(ctx, kind)
            inners.append(inner)
            sheets.append(drawn)
    exported = ExportTab(pages, tuple(sheets))
    pickers = [picker for each in sheets for picker in each.pickers]
    gr.on(
        [each.select for each in (tab, *inners)], partial(on_open, ctx, KINDS), exported.subjects, pickers, **QUIET
    )  # fmt: skip
    return exported


def on_open(ctx: Context, kinds: Sequence[Kind], *subjects: Any) -> list[Any]:
    """`sheet.on_open` of every sub-page: all offer what is there now, whichever of them is in sight."""
    pairs = zip(kinds, subjects, strict=True)
    return [update for kind, subject in pairs for update in sheet.on_open(ctx, kind, subject)]


@shown
def on_take(ctx: Context, kinds: Sequence[Kind], run_id: str, to: str) -> list[Any]:
    """What a run made is taken to the chat, or to the sub-page of a kind: the tab, the page and the second picker of
    the chat, the sub-page, and the subject of every one.

    Raises:
        RunError: it made nothing, or is gone.
    """
    run = ctx.store.get(run_id)
    if run.output is None:
        raise RunError(f"{run_id} left nothing that could be used")
    made = Output(run, run.output)
    if to == "chat":
        return [gr.Tabs(selected="chat"), gr.Tabs(selected="compare"), str(made.path), *[gr.skip()] * (1 + len(kinds))]
    values = [kind.holds(made) if kind.name == to else gr.skip() for kind in kinds]
    return [gr.Tabs(selected="export"), gr.skip(), gr.skip(), gr.Tabs(selected=to), *values]
