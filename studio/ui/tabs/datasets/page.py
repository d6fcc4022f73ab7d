"""The Datasets tab: what there is, the rows of the chosen set as conversations, and a way in for new ones."""

from __future__ import annotations

import shlex
import zlib
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from studio.datasets import preview
from studio.datasets.catalog import listings
from studio.errors import DatasetError
from studio.settings import ASSETS
from studio.ui import mapping, turns
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.tabs.datasets import upload
from studio.ui.text import said

PAGE_ROWS = 5
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# an error reaches the page only through the queue
TOLD: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 8, "api_visibility": "private"}
NOT_CHOSEN = '<p class="empty">Choose a dataset in the list to read its rows, or add one of your own.</p>'
TEMPLATE = """<input type="search" placeholder="Search" aria-label="Search datasets" hidden>
<div class="card bad" hidden></div>
<p class="datasets-empty empty" hidden data-none="No datasets yet. Drop a file above or paste a few rows:
a list of questions with answers is enough to begin."></p>
<table class="runs datasets" hidden><thead><tr><th>Name</th><th>Shape</th><th class="number">Rows</th>
<th class="number narrow-hidden">Size</th></tr></thead><tbody></tbody></table>"""
STEPS = {
    "first": ("First", "首页"),
    "prev": ("Previous", "上一页"),
    "next": ("Next", "下一页"),
    "last": ("Last", "末页"),
}


@dataclass(frozen=True)
class DatasetsTab:
    """What other tabs listen to: `train` carries the name in `chosen` to the Train tab."""

    train: gr.Button
    chosen: gr.HTML


@dataclass(frozen=True)
class Actions:
    """What can be done with the chosen set; deleting is asked about first and can be undone."""

    row: gr.Row
    train: gr.Button
    delete: gr.Button
    question: gr.Row
    yes: gr.Button
    no: gr.Button
    undo_row: gr.Row
    undo: gr.Button


@dataclass(frozen=True)
class Pages:
    """The rows of the chosen set, a page at a time. `total` is None while a large file is not counted."""

    steps: tuple[gr.Button, ...]
    place: gr.HTML
    jump: gr.Textbox
    rows: gr.HTML
    offset: gr.State
    total: gr.State

    @property
    def turned(self) -> list[gr.components.Component]:
        """What changes with the page."""
        return [self.rows, self.offset, *self.counted]

    @property
    def counted(self) -> list[gr.components.Component]:
        """What changes with the number of rows."""
        return [self.total, self.place, *self.steps]


def build(ctx: Context, tab: gr.Tab) -> DatasetsTab:
    """Draw the tab and wire it."""
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=2, min_width=320):
            way_in = upload.draw_way_in()
            with gr.Column() as listed:
                table = _table(ctx)
            guess = upload.draw_guess()
        with gr.Column(scale=3, min_width=320):
            with gr.Column(elem_id="dataset") as chosen:
                notice = gr.HTML(elem_id="data-notice", elem_classes="maybe")
                head = gr.HTML(NOT_CHOSEN, elem_id="data-head")
                actions = _draw_actions()
                with gr.Tabs(visible=False, elem_id="data-panels") as panels, _panel("rows", "Rows", "数据行"):
                    pages = _draw_pages()
                with gr.Accordion(said("As a command", "等价命令"), open=False, visible=False) as command:
                    shell = gr.Code(language="shell", interactive=False, show_label=False, lines=1)
            sample = upload.draw_sample()
    about = [head, actions.row, actions.train, actions.question, command, shell, panels, *pages.turned]
    table.change(partial(on_select, ctx), table, about, **QUIET).then(
        partial(on_count, ctx), [table, pages.offset, pages.total], pages.counted, **TOLD
    )
    table.select(clear, None, notice, **QUIET)
    _wire_actions(ctx, table, notice, actions)
    _wire_pages(ctx, table, pages)
    upload.wire(ctx, way_in, guess, sample, table, notice, [listed, chosen])
    return DatasetsTab(actions.train, table)


def on_list(ctx: Context, known: str) -> dict[str, Any] | None:
    """All sets, or None where nothing changed since `known`, the stamp of an earlier answer."""
    stamp = _stamp(ctx.registry.data_dir)
    if stamp == known:
        return None
    try:
        return {"stamp": stamp, "rows": [asdict(listing) for listing in listings(ctx.registry)], "fault": ""}
    except DatasetError as error:
        return {"stamp": stamp, "rows": [], "fault": str(error)}


def on_select(ctx: Context, name: str) -> list[Any]:
    """Everything about a set that was just chosen, its first rows included; or why it cannot be used."""
    hidden, shown_now = gr.update(visible=False), gr.update(visible=True)
    if name not in _names(ctx):
        return [NOT_CHOSEN, hidden, gr.skip(), hidden, hidden, "", hidden, *_no_page()]
    entry = ctx.registry.entry(name)
    shell = shlex.join(["python", "-m", "studio", "data", "preview", name])
    head = _head(name, f"{mapping.FORMATS[entry.formatting]} · {entry.file_name}")
    try:
        page = _page(ctx, name, 0)
    except DatasetError as error:
        head += turns.lines_html(str(error), "bad")
        return [head, shown_now, gr.update(interactive=False), hidden, shown_now, shell, hidden, *_no_page()]
    return [head, shown_now, gr.update(interactive=True), hidden, shown_now, shell, shown_now, *page]


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
    return _page(ctx, name, min(max(0, start), last))


@shown
def on_count(ctx: Context, name: str, offset: int, total: int | None) -> list[Any]:
    """Count the rows of a large file, whose first page is shown already."""
    if total is not None or name not in _names(ctx) or ctx.registry.entry(name).note:
        return [gr.skip()] * (2 + len(STEPS))
    total = preview.count(ctx.registry, name)
    return [total, *_place(offset, min(PAGE_ROWS, total), total)]


@shown
def on_delete(ctx: Context, name: str) -> tuple[str, str, str, Any, Any]:
    """Move a set to the trash and offer to undo it: nothing is chosen then, and nothing told of it."""
    return "", "", ctx.registry.remove(name), gr.update(visible=False), gr.update(visible=True)


@shown
def on_undo(ctx: Context, trash_id: str) -> tuple[str, Any]:
    """Bring the set back."""
    return ctx.registry.restore(trash_id).name, gr.update(visible=False)


def show() -> Any:
    """Show a row."""
    return gr.update(visible=True)


def hide() -> Any:
    """Take a row away."""
    return gr.update(visible=False)


def clear() -> str:
    """Empty a text."""
    return ""


def _table(ctx: Context) -> gr.HTML:
    def datasets(known: str) -> dict[str, Any] | None:
        return on_list(ctx, known)

    script = (ASSETS / "web" / "datasets.js").read_text(encoding="utf-8")
    functions = [datasets]
    return gr.HTML("", html_template=TEMPLATE, js_on_load=script, server_functions=functions, elem_id="datasets-table")


def _panel(name: str, english: str, chinese: str) -> gr.Tab:
    return gr.Tab(said(english, chinese), id=name, elem_id=f"data-panel-{name}")


def _draw_actions() -> Actions:
    with gr.Row(visible=False, elem_classes="actions") as row:
        train = gr.Button(said("Train on it", "用它训练"), variant="primary", size="sm", elem_id="data-train")
        delete = gr.Button(said("Delete", "删除"), variant="stop", size="sm", min_width=80, elem_id="data-delete")
    with gr.Row(visible=False, elem_classes="actions") as question:
        gr.Markdown(said("Move this dataset and its file to the trash?", "把该数据集及其文件移到回收站？"))
        yes = gr.Button(said("Move to trash", "移到回收站"), variant="stop", size="sm", elem_id="data-delete-yes")
        no = gr.Button(said("Keep it", "保留"), size="sm")
    with gr.Row(visible=False, elem_classes="actions") as undo_row:
        gr.Markdown(said("The dataset is in the trash.", "该数据集已移到回收站。"))
        undo = gr.Button(said("Undo", "撤销"), size="sm", elem_id="data-delete-undo")
    return Actions(row, train, delete, question, yes, no, undo_row, undo)


def _draw_pages() -> Pages:
    with gr.Row(elem_classes="actions pager"):
        steps = tuple(gr.Button(said(*STEPS[step]), size="sm", min_width=72, elem_id=f"data-{step}") for step in STEPS)
        place = gr.HTML(elem_id="data-place")
        jump = gr.Textbox(
            show_label=False, container=False, max_lines=1, min_width=110, elem_id="data-jump",
            placeholder=said("Go to row", "跳到行"),
        )  # fmt: skip
    return Pages(steps, place, jump, gr.HTML(elem_id="data-rows"), gr.State(0), gr.State(None))


def _wire_actions(ctx: Context, table: gr.HTML, notice: gr.HTML, actions: Actions) -> None:
    trashed = gr.State("")
    actions.delete.click(show, None, actions.question, **QUIET)
    actions.no.click(hide, None, actions.question, **QUIET)
    after = [table, notice, trashed, actions.question, actions.undo_row]
    actions.yes.click(partial(on_delete, ctx), table, after, api_name="delete_dataset")
    actions.undo.click(partial(on_undo, ctx), trashed, [table, actions.undo_row], api_name="restore_dataset")


def _wire_pages(ctx: Context, table: gr.HTML, pages: Pages) -> None:
    where = [table, pages.offset, pages.total]
    for step, button in zip(STEPS, pages.steps, strict=True):
        button.click(partial(on_page, ctx, step), where, pages.turned, **TOLD)
    pages.jump.submit(partial(on_page, ctx, "row"), [*where, pages.jump], pages.turned, **TOLD)


def _names(ctx: Context) -> list[str]:
    try:
        return ctx.registry.names()
    except DatasetError:  # a damaged registry is shown in the list
        return []


def _stamp(data_dir: Path) -> str:
    """Changes with every file directly in the data folder, so that an unchanged list costs a few stat calls."""
    names = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    return f"{zlib.crc32(repr([_mark(path) for path in names]).encode()):08x}"


def _mark(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:  # a temporary name that was just renamed, or a link to nowhere
        return path.name, 0, 0
    return path.name, status.st_mtime_ns, status.st_size


def _page(ctx: Context, name: str, offset: int) -> list[Any]:
    """Values of `Pages.turned`."""
    page = preview.page(ctx.registry, name, offset, PAGE_ROWS)
    return [turns.rows_html(page.rows), offset, page.total, *_place(offset, len(page.rows), page.total)]


def _no_page() -> list[Any]:
    return ["", 0, None, "", *[gr.skip()] * len(STEPS)]


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


def _head(name: str, detail: str) -> str:
    return f'<div class="run-head"><h3>{escape(name)}</h3><small>{escape(detail)}</small></div>'
