"""The rows of the chosen set, a page at a time; rows can be picked and deleted, which can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio.datasets import edit, preview
from studio.errors import DatasetError
from studio.settings import ASSETS
from studio.ui import turns
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.text import said

PAGE_ROWS = 5
# an error reaches the page only through the queue
TOLD: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 8, "api_visibility": "private"}
STEPS = {
    "first": ("First", "首页"),
    "prev": ("Previous", "上一页"),
    "next": ("Next", "下一页"),
    "last": ("Last", "末页"),
}


@dataclass(frozen=True)
class Pages:
    """The rows on show. `total` is None while a large file is not counted; `seen` is the version of the file that they
    were read from, so that nobody changes rows of which he saw an older state."""

    steps: tuple[gr.Button, ...]
    place: gr.HTML
    jump: gr.Textbox
    add: gr.Button
    rows: gr.HTML
    offset: gr.State
    total: gr.State
    seen: gr.State

    @property
    def turned(self) -> list[gr.components.Component]:
        """What changes with the page."""
        return [self.rows, self.offset, self.seen, *self.counted]

    @property
    def counted(self) -> list[gr.components.Component]:
        """What changes with the number of rows."""
        return [self.total, self.place, *self.steps]

    @property
    def where(self) -> list[gr.components.Component]:
        """What says which page is on show."""
        return [self.offset, self.total]


@dataclass(frozen=True)
class Undo:
    """The way back from the last change of rows."""

    row: gr.Row
    what: gr.HTML
    button: gr.Button
    id: gr.State

    @property
    def offered(self) -> list[gr.blocks.Block]:
        """What changes when there is something to undo."""
        return [self.row, self.what, self.id]


def draw() -> Pages:
    """Draw an empty page."""
    with gr.Row(elem_classes="actions pager"):
        steps = tuple(gr.Button(said(*STEPS[step]), size="sm", min_width=72, elem_id=f"data-{step}") for step in STEPS)
        place = gr.HTML(elem_id="data-place")
        jump = gr.Textbox(
            show_label=False, container=False, max_lines=1, min_width=110, elem_id="data-jump",
            placeholder=said("Go to row", "跳到行"),
        )  # fmt: skip
        add = gr.Button(said("Add a row", "添加行"), size="sm", min_width=90, elem_id="data-add")
    script = (ASSETS / "web" / "rows.js").read_text(encoding="utf-8")
    rows = gr.HTML(js_on_load=script, elem_id="data-rows")
    return Pages(steps, place, jump, add, rows, gr.State(0), gr.State(None), gr.State(""))


def draw_undo() -> Undo:
    """Draw the offer to undo, hidden."""
    with gr.Row(visible=False, elem_classes="actions", elem_id="data-undo-row") as row:
        what = gr.HTML()
        button = gr.Button(said("Undo", "撤销"), size="sm", min_width=80, elem_id="data-undo")
    return Undo(row, what, button, gr.State(""))


def wire(ctx: Context, table: gr.HTML, pages: Pages, undo: Undo) -> None:
    """Wire the steps, the deletion of picked rows, and its undoing."""
    for step, button in zip(STEPS, pages.steps, strict=True):
        button.click(partial(on_page, ctx, step), [table, *pages.where], pages.turned, **TOLD)
    pages.jump.submit(partial(on_page, ctx, "row"), [table, *pages.where, pages.jump], pages.turned, **TOLD)

    def delete(name: str, offset: int, seen: str, event: gr.EventData) -> list[Any]:
        return on_delete(ctx, name, offset, seen, event.rows)

    pages.rows.delete(delete, [table, pages.offset, pages.seen], [*pages.turned, *undo.offered], **TOLD)
    undo.button.click(partial(on_undo, ctx), [table, pages.offset, undo.id], [*pages.turned, *undo.offered], **TOLD)


@shown
def on_page(ctx: Context, step: str, name: str, offset: int, total: int | None, typed: str = "") -> list[Any]:
    """Another page: `step` is one of STEPS, or row with a number that was `typed`."""
    rows = preview.count(ctx.registry, name) if total is None else total
    last = max(0, rows - 1)
    if step == "row":
        start = _row_number(typed) - 1
    else:
        tops = {
            "first": 0,
            "prev": offset - PAGE_ROWS,
            "next": offset + PAGE_ROWS,
            "last": last // PAGE_ROWS * PAGE_ROWS,
        }
        start = tops[step]
    return page(ctx, name, min(max(0, start), last))


@shown
def on_count(ctx: Context, name: str, offset: int, total: int | None) -> list[Any]:
    """Count the rows of a large file, whose first page is shown already."""
    if total is not None or not name or ctx.registry.entry(name).note:
        return [gr.skip()] * (2 + len(STEPS))
    total = preview.count(ctx.registry, name)
    return [total, *_place(offset, min(PAGE_ROWS, total), total)]


@shown
def on_delete(ctx: Context, name: str, offset: int, seen: str, rows: Sequence[int]) -> list[Any]:
    """Take rows out of the file, and offer to undo it."""
    undo_id = edit.delete_rows(ctx.registry, name, [int(row) for row in rows], seen=seen)
    what = f"Row {rows[0]:,} was deleted." if len(rows) == 1 else f"{len(rows):,} rows were deleted."
    return [*near(ctx, name, offset), *offer(what, undo_id)]


@shown
def on_undo(ctx: Context, name: str, offset: int, undo_id: str) -> list[Any]:
    """Bring the file back as it was before the last change."""
    edit.undo(ctx.registry, undo_id)
    return [*near(ctx, name, offset), *no_offer()]


def offer(what: str, undo_id: str) -> list[Any]:
    """Values of `Undo.offered` after a change."""
    return [gr.update(visible=True), what, undo_id]


def no_offer() -> list[Any]:
    """Values of `Undo.offered` where nothing can be undone."""
    return [gr.update(visible=False), "", ""]


def near(ctx: Context, name: str, offset: int) -> list[Any]:
    """Values of `Pages.turned`: the page at `offset`, or the last one where the file has become shorter."""
    last = max(0, preview.count(ctx.registry, name) - 1)
    return page(ctx, name, min(offset, last))


def page(ctx: Context, name: str, offset: int) -> list[Any]:
    """Values of `Pages.turned`."""
    found = preview.page(ctx.registry, name, offset, PAGE_ROWS)
    html = turns.rows_html(found.rows, editable=True)
    return [html, offset, edit.version(ctx.registry, name), found.total, *_place(offset, len(found.rows), found.total)]


def no_page() -> list[Any]:
    """Values of `Pages.turned` where there are no rows to show."""
    return ["", 0, "", None, "", *[gr.skip()] * len(STEPS)]


def _place(offset: int, count: int, total: int | None) -> list[Any]:
    """Where the page is, and which steps lead further."""
    known = "… (counting)" if total is None else f"{total:,}"
    before, after = offset > 0, total is None or offset + count < total
    can = {"first": before, "prev": before, "next": after, "last": after}
    text = f"Rows {offset + 1:,}–{offset + count:,} of {known}" if count else "No rows"
    return [text, *[gr.update(interactive=can[step]) for step in STEPS]]


def _row_number(typed: str) -> int:
    digits = typed.strip().replace(",", "")
    if not (digits.isascii() and digits.isdigit()):
        raise DatasetError(f"{typed!r} is not a row: type its number, as in 120")
    return int(digits[:12])
