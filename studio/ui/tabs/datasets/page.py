"""The tab as a whole: the way in and the list on the left, the chosen set on the right."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio.config import load
from studio.config.data import DataConfig
from studio.datasets import checks
from studio.datasets.entry import Entry
from studio.datasets.preview import COUNTED_BYTES
from studio.errors import DatasetError
from studio.ui import jobs, mapping, turns
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.panel import LATEST, QUIET
from studio.ui.tabs import data_checks, data_masks, data_statistics
from studio.ui.tabs.datasets import drafts, editor, listing, operations, rows, taking, way_in
from studio.ui.tabs.datasets.rows import TOLD
from studio.ui.text import said

NOT_CHOSEN = '<p class="empty">Choose a dataset in the list to read its rows, or add one of your own.</p>'


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
    fetch: gr.Button
    make: gr.Button
    take: gr.Button
    columns: gr.Button
    delete: gr.Button
    question: gr.Row
    yes: gr.Button
    no: gr.Button
    undo_row: gr.Row
    undo: gr.Button

    @property
    def about(self) -> list[gr.blocks.Block]:
        """What depends on the chosen set."""
        return [self.row, self.train, self.fetch, self.make, self.take, self.columns, self.question]


@dataclass(frozen=True)
class Chosen:
    """The right half: everything about one set."""

    head: gr.HTML
    jobs: gr.HTML
    actions: Actions
    work: operations.Work
    taking: taking.Taking
    panels: gr.Tabs
    reading: gr.Column
    pages: rows.Pages
    editor: editor.Editor
    undo: rows.Undo
    shell: gr.Code
    command: gr.Accordion

    @property
    def about(self) -> list[gr.blocks.Block]:
        """What depends on the set."""
        forms = [self.work.panel, self.taking.panel, self.reading, self.editor.panel, self.undo.row]
        return [self.head, *self.actions.about, *forms, self.command, self.shell, self.panels, *self.pages.turned]


def build(ctx: Context, tab: gr.Tab) -> DatasetsTab:
    """Draw the tab and wire it."""
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=2, min_width=320):
            with gr.Column() as entrance:
                way = way_in.draw()
            problem = gr.HTML(elem_id="data-problem", elem_classes="maybe")
            with gr.Column() as listed:
                imports = jobs.draw(ctx, "data-imports", jobs.IMPORTS)
                table = listing.draw(ctx)
            guess = drafts.draw_guess()
        with gr.Column(scale=3, min_width=320):
            notice = gr.HTML(elem_id="data-notice", elem_classes="maybe")
            with gr.Column(elem_id="dataset") as about:
                chosen = _draw_chosen(ctx, table)
            sample = drafts.draw_sample()
    desk = drafts.Desk(guess, sample, *drafts.states(), (entrance, listed, about))
    _wire_chosen(ctx, table, notice, chosen, desk.reread)
    way_in.wire(ctx, way, desk, problem)
    drafts.wire(ctx, desk, table, notice)
    desk.look.after(chosen.actions.columns.click(partial(on_columns, ctx), table, desk.laid, **TOLD))
    for lines in (imports, chosen.jobs):
        _wire_jobs(ctx, lines, table, notice)
    return DatasetsTab(chosen.actions.train, table)


def on_select(ctx: Context, name: str) -> list[Any]:
    """Values of `Chosen.about` for a set that was just chosen, its first rows included; or why it cannot be used."""
    entry, hidden = _entry(ctx, name), gr.update(visible=False)
    if entry is None:
        return [NOT_CHOSEN, *_acts(row=False), *_forms(), hidden, "", hidden, *rows.no_page()]
    shell, head = shlex.join(["python", "-m", "studio", "data", "preview", name]), _head(entry)
    command = [gr.update(visible=True), shell]
    try:
        page = rows.page(ctx, name, 0)
    except DatasetError as error:
        head += turns.lines_html(str(error), "wait" if entry.remote else "bad")
        acts = _acts(usable=False, remote=entry.remote)
        return [head, *acts, *_forms(), *command, hidden, *rows.no_page()]
    return [head, *_acts(), *_forms(), *command, gr.update(visible=True), *page]


@shown
def on_edited(ctx: Context, name: str, seen: str) -> str:
    """The heading after rows were `seen` in a new state: a packed file is no longer one once it was edited."""
    entry = _entry(ctx, name)
    return _head(entry) if entry and seen else gr.skip()


@shown
def on_settle(ctx: Context, name: str) -> None:
    """A small set is checked as soon as somebody looks at it; a large one when he asks for it."""
    entry = _entry(ctx, name)
    if entry is None or entry.note:
        return
    path = ctx.registry.file(name)
    small = path.is_file() and path.stat().st_size <= COUNTED_BYTES
    if small and checks.stored(path, entry, ctx.registry.cache_dir) is None:
        report, _ = checks.survey(path, entry)
        checks.keep(path, entry, report, ctx.registry.cache_dir)


@shown
def on_columns(ctx: Context, name: str) -> list[Any]:
    """Say anew what the columns of the chosen set mean."""
    draft = drafts.reread(ctx.registry, name)
    return drafts.lay([draft], draft.path)


@shown
def on_fetch(ctx: Context, name: str) -> None:
    """Download a set that the registry knows and this computer has not."""
    entry = ctx.registry.entry(name)
    place = {"hub": entry.hub, "hub_id": entry.hub_id, "subset": entry.subset, "split": entry.split}
    jobs.start(ctx, load.parse(DataConfig, {"action": "import", "dataset": [name], "output_name": name, **place}))


@shown
def on_delete(ctx: Context, name: str) -> tuple[str, str, str, Any, Any]:
    """Move a set to the trash and offer to undo it: nothing is chosen then, and nothing told of it."""
    return "", "", ctx.registry.remove(name), gr.update(visible=False), gr.update(visible=True)


@shown
def on_restore(ctx: Context, trash_id: str) -> tuple[str, Any]:
    """Bring the set back."""
    return ctx.registry.restore(trash_id).name, gr.update(visible=False)


def on_end(ctx: Context, made: list[str]) -> tuple[Any, Any]:
    """Work on sets ended: the first of those that it `made` is opened, and what was told of another one forgotten."""
    name = next((name for name in made if _entry(ctx, name)), None)
    return (name, "") if name else (gr.skip(), gr.skip())


def show() -> Any:
    """Show a part."""
    return gr.update(visible=True)


def hide() -> Any:
    """Take a part away."""
    return gr.update(visible=False)


def clear() -> str:
    """Empty a text."""
    return ""


def _draw_chosen(ctx: Context, table: gr.HTML) -> Chosen:
    head = gr.HTML(NOT_CHOSEN, elem_id="data-head")
    lines = jobs.draw(ctx, "data-jobs")
    actions, work, take = _draw_actions(), operations.draw(), taking.draw()
    with gr.Tabs(visible=False, elem_id="data-panels") as panels:
        with _panel("rows", "Rows", "数据行"):
            undo = rows.draw_undo()
            with gr.Column() as reading:
                pages = rows.draw()
            row_editor = editor.draw()
        _draw_panels(ctx, table, panels, pages)
    with gr.Accordion(said("As a command", "等价命令"), open=False, visible=False) as command:
        shell = gr.Code(language="shell", interactive=False, show_label=False, lines=1)
    return Chosen(
        head, lines, actions, work, take, panels, reading, pages, row_editor, undo, shell, command
    )  # fmt: skip


def _draw_panels(ctx: Context, table: gr.HTML, panels: gr.Tabs, pages: rows.Pages) -> None:
    """The panels beside the rows. A row that a finding names is shown there."""

    def jump(name: str, event: gr.EventData) -> list[Any]:
        return [gr.Tabs(selected="rows"), *rows.on_page(ctx, "row", name, 0, None, str(event.row))]

    with _panel("checks", "Checks", "检查"):
        checks = data_checks.build(ctx, table)
    with _panel("statistics", "Statistics", "统计"):
        measured, settings = data_statistics.build(ctx, table)
    gr.on([checks.select, measured.select], jump, table, [panels, *pages.turned], **TOLD)
    with _panel("masks", "Masks", "掩码"):
        data_masks.build(ctx, table, settings)


def _panel(name: str, english: str, chinese: str) -> gr.Tab:
    return gr.Tab(said(english, chinese), id=name, elem_id=f"data-panel-{name}")


def _draw_actions() -> Actions:
    with gr.Row(visible=False, elem_classes="actions") as row:
        train = gr.Button(said("Train on it", "用它训练"), variant="primary", size="sm", elem_id="data-train")
        fetch = gr.Button(said("Download it here", "下载到本机"), variant="primary", size="sm", elem_id="data-fetch")
        make = gr.Button(said("Make a new set", "生成新数据集"), size="sm", min_width=80, elem_id="data-make")
        take = gr.Button(said("Download", "下载"), size="sm", min_width=80, elem_id="data-take")
        columns = gr.Button(said("Columns", "列含义"), size="sm", min_width=80, elem_id="data-columns")
        delete = gr.Button(said("Delete", "删除"), variant="stop", size="sm", min_width=80, elem_id="data-delete")
    with gr.Row(visible=False, elem_classes="actions") as question:
        gr.Markdown(said("Move this dataset and its file to the trash?", "把该数据集及其文件移到回收站？"))
        yes = gr.Button(said("Move to trash", "移到回收站"), variant="stop", size="sm", elem_id="data-delete-yes")
        no = gr.Button(said("Keep it", "保留"), size="sm")
    with gr.Row(visible=False, elem_classes="actions") as undo_row:
        gr.Markdown(said("The dataset is in the trash.", "该数据集已移到回收站。"))
        undo = gr.Button(said("Undo", "撤销"), size="sm", elem_id="data-delete-undo")
    return Actions(row, train, fetch, make, take, columns, delete, question, yes, no, undo_row, undo)


def _wire_chosen(ctx: Context, table: gr.HTML, notice: gr.HTML, chosen: Chosen, reread: gr.State) -> None:
    pages, actions = chosen.pages, chosen.actions
    # a set that is read anew keeps its name, and with it the value of the list
    changes = [table.change, reread.change]
    gr.on(changes, partial(on_select, ctx), table, chosen.about, **LATEST).then(
        partial(rows.on_count, ctx), [table, *pages.where], pages.counted, **TOLD
    ).then(partial(on_settle, ctx), table, None, **TOLD)
    # rows were edited: what was known about them is out of date
    pages.seen.change(partial(on_edited, ctx), [table, pages.seen], chosen.head, **TOLD)
    pages.seen.change(partial(on_settle, ctx), table, None, **TOLD)
    table.change(str, table, chosen.jobs, **QUIET)
    table.select(clear, None, notice, **QUIET)
    _wire_deletion(ctx, table, notice, actions)
    rows.wire(ctx, table, pages, chosen.undo)
    editor.wire(ctx, table, pages, chosen.reading, chosen.editor, chosen.undo)
    actions.fetch.click(partial(on_fetch, ctx), table, None, **TOLD).then(None, js=jobs.SHOW)
    operations.wire(ctx, table, actions.make, chosen.work)
    taking.wire(ctx, table, actions.take, chosen.taking)


def _wire_deletion(ctx: Context, table: gr.HTML, notice: gr.HTML, actions: Actions) -> None:
    trashed = gr.State("")
    actions.delete.click(show, None, actions.question, **QUIET)
    actions.no.click(hide, None, actions.question, **QUIET)
    after = [table, notice, trashed, actions.question, actions.undo_row]
    actions.yes.click(partial(on_delete, ctx), table, after, api_name="delete_dataset")
    actions.undo.click(partial(on_restore, ctx), trashed, [table, actions.undo_row], api_name="restore_dataset")


def _wire_jobs(ctx: Context, lines: gr.HTML, table: gr.HTML, notice: gr.HTML) -> None:
    def end(event: gr.EventData) -> tuple[Any, Any]:
        return on_end(ctx, event.made)

    def open_made(event: gr.EventData) -> tuple[str, str]:
        return str(event.name), ""

    lines.end(end, None, [table, notice], **TOLD)
    lines.select(open_made, None, [table, notice], **TOLD)


def _entry(ctx: Context, name: str) -> Entry | None:
    """The entry called `name`; None where there is none, or the registry is damaged, which the list tells."""
    try:
        return ctx.registry.entry(name) if name else None
    except DatasetError:
        return None


def _acts(row: bool = True, usable: bool = True, remote: bool = False) -> list[Any]:
    """Values of `Actions.about`."""
    can = gr.update(visible=not remote, interactive=usable)
    return [gr.update(visible=row), can, gr.update(visible=remote), can, can, can, gr.update(visible=False)]


def _forms() -> list[Any]:
    """A newly chosen set shows its rows; every form is closed."""
    closed = gr.update(visible=False)
    return [closed, closed, gr.update(visible=True), closed, closed]


def _head(entry: Entry) -> str:
    detail = f"{mapping.FORMATS[entry.formatting]} · {entry.file_name or entry.hub_id}"
    return f'<div class="run-head"><h3>{escape(entry.name)}</h3><small>{escape(detail)}</small></div>'
