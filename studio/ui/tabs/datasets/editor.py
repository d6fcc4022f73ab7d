"""One row as JSON, beside it how it reads: changed, or written anew, and saved into the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio.datasets import edit, preview
from studio.datasets.entry import Entry
from studio.datasets.reading import Record
from studio.errors import DatasetError
from studio.ui import turns
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.panel import LATEST, QUIET
from studio.ui.tabs.datasets import rows
from studio.ui.tabs.datasets.rows import TOLD, Pages, Undo
from studio.ui.text import said

MOST_CHARS = 400_000


@dataclass(frozen=True)
class Editor:
    """`row` is the number of the row being changed, 0 for a new one."""

    panel: gr.Column
    title: gr.HTML
    code: gr.Code
    reads: gr.HTML
    save: gr.Button
    cancel: gr.Button
    row: gr.State

    @property
    def opened(self) -> list[gr.blocks.Block]:
        """What is filled when a row is opened."""
        return [self.panel, self.title, self.code, self.reads, self.save, self.row]


def draw() -> Editor:
    """Draw the editor, hidden."""
    with gr.Column(visible=False, elem_id="data-editor") as panel:
        title = gr.HTML()
        with gr.Row():
            with gr.Column(min_width=280):
                code = gr.Code(
                    language="json", show_label=False, lines=12, max_lines=28, wrap_lines=True, elem_id="data-json"
                )
            with gr.Column(min_width=280):
                reads = gr.HTML(elem_id="data-reads")
        with gr.Row(elem_classes="actions"):
            save = gr.Button(said("Save", "保存"), variant="primary", size="sm", elem_id="data-save")
            cancel = gr.Button(said("Cancel", "取消"), size="sm", min_width=80, elem_id="data-edit-cancel")
    return Editor(panel, title, code, reads, save, cancel, gr.State(0))


def wire(ctx: Context, table: gr.HTML, pages: Pages, reading: gr.Column, editor: Editor, undo: Undo) -> None:
    """Wire it. While a row is open, the editor stands in the place of `reading`, the page of rows."""

    def open_row(name: str, event: gr.EventData) -> list[Any]:
        return on_edit(ctx, name, int(event.row))

    opened = [reading, *editor.opened]
    pages.rows.edit(open_row, table, opened, **TOLD)
    pages.add.click(partial(on_add, ctx), table, opened, **TOLD)
    editor.code.change(partial(on_typed, ctx), [table, editor.code], [editor.reads, editor.save], **LATEST)
    editor.cancel.click(on_close, None, [reading, editor.panel], **QUIET)
    editor.save.click(
        partial(on_save, ctx),
        [table, pages.offset, pages.seen, editor.row, editor.code],
        [reading, editor.panel, *pages.turned, *undo.offered],
        **TOLD,
    )


@shown
def on_edit(ctx: Context, name: str, row: int) -> list[Any]:
    """Open a row."""
    record = edit.raw(ctx.registry, name, row)
    text = _text(record)
    if len(text) > MOST_CHARS:
        raise DatasetError(f"row {row:,} has {len(text):,} characters, too many for a page: edit the file itself")
    return _opened(ctx, name, f"Row {row:,}", text, row)


@shown
def on_add(ctx: Context, name: str) -> list[Any]:
    """Open a new row that has the fields of the others."""
    return _opened(ctx, name, "A new row, added at the end", _text(_blank(ctx.registry.entry(name))), 0)


def on_typed(ctx: Context, name: str, text: str) -> tuple[str, Any]:
    """How the row would read now, or why it would not; only what can be used can be saved."""
    try:
        row = preview.reading(parse(text), ctx.registry.entry(name))
    except DatasetError as error:
        return turns.lines_html(str(error), "bad"), gr.update(interactive=False)
    return turns.rows_html([row]), gr.update(interactive=not row.error)


def on_close() -> tuple[Any, Any]:
    """Back to the rows."""
    return gr.update(visible=True), gr.update(visible=False)


@shown
def on_save(ctx: Context, name: str, offset: int, seen: str, row: int, text: str) -> list[Any]:
    """Write the row into the file, show it there, and offer to undo it."""
    record = parse(text)
    if reason := preview.reading(record, ctx.registry.entry(name)).error:  # it was typed a moment before the click
        raise DatasetError(f"the row cannot be used, so it was not saved: {reason}")
    if row:
        undo_id = edit.replace_row(ctx.registry, name, row, record, seen=seen)
        return [*on_close(), *rows.near(ctx, name, offset), *rows.offer(f"Row {row:,} was changed.", undo_id)]
    undo_id = edit.add_row(ctx.registry, name, record, seen=seen)
    last = preview.count(ctx.registry, name) - 1
    return [*on_close(), *rows.near(ctx, name, last), *rows.offer("The row was added.", undo_id)]


def parse(text: str) -> Record:
    """The JSON object that was typed.

    Raises:
        DatasetError: it is none; where is said by line and column.
    """
    try:
        record = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise DatasetError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise DatasetError("this is nested too deeply") from error
    if not isinstance(record, dict):
        raise DatasetError('a row is an object: {"name": value, …}')
    return record


def _no_number(literal: str) -> None:
    raise DatasetError(f"{literal} is not a number in JSON: write null, or a number")


def _opened(ctx: Context, name: str, title: str, text: str, row: int) -> list[Any]:
    reads, save = on_typed(ctx, name, text)
    heading = f'<div class="run-head"><b>{title}</b></div>'
    return [gr.update(visible=False), gr.update(visible=True), heading, text, reads, save, row]


def _text(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, indent=2)


def _blank(entry: Entry) -> Record:
    """A row of the shape of `entry` without any text."""
    columns, tags = entry.columns, entry.tags

    def said_by(role: str) -> dict[str, str]:
        return {tags["role_tag"]: tags[role], tags["content_tag"]: ""}

    if entry.formatting == "alpaca":
        roles = ("prompt", "query", *(("chosen", "rejected") if entry.ranking else ("response",)))
        return {columns[role]: "" for role in roles if role in columns}
    if entry.ranking:
        answers = {columns[role]: said_by("assistant_tag") for role in ("chosen", "rejected")}
        return {columns["messages"]: [said_by("user_tag")], **answers}
    return {columns["messages"]: [said_by("user_tag"), said_by("assistant_tag")]}
