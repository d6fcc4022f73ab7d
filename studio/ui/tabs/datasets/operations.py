"""New sets made from the chosen one: each kind of work a small form of the options that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio.config import load
from studio.config.data import DataConfig
from studio.datasets import preview
from studio.errors import DatasetError
from studio.ui import choices, jobs
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw_some
from studio.ui.panel import QUIET
from studio.ui.tabs.datasets import drafts
from studio.ui.tabs.datasets.rows import TOLD
from studio.ui.text import said

FIELDS = ("fraction", "column", "rows", "seed", "shape", "file_format", "output_name")
SAMPLE_ROWS = 100
ALWAYS = ("file_format", "output_name")


@dataclass(frozen=True)
class Kind:
    """A kind of work as a person thinks of it: the action, its label, the options it takes, what they begin with."""

    action: str
    label: tuple[str, str]
    fields: tuple[str, ...] = ()
    start: tuple[tuple[str, Any], ...] = ()


KINDS = {
    "duplicate": Kind("duplicate", ("Duplicate", "复制")),
    "split": Kind(
        "split", ("Split in two by chance", "随机拆分为两部分"), ("fraction", "seed"), (("fraction", "0.9"),)
    ),
    "split-by": Kind("split", ("Split by the values of a column", "按列的取值拆分"), ("column",)),
    "merge": Kind("merge", ("Merge with other sets", "与其他数据集合并")),
    "shuffle": Kind("shuffle", ("Shuffle", "打乱顺序"), ("seed",)),
    "sample": Kind("sample", ("Sample some rows", "抽样"), ("rows", "seed")),
    "deduplicate": Kind("deduplicate", ("Drop rows that repeat", "去重")),
    "convert": Kind("convert", ("Convert to another shape", "转换格式"), ("shape",), (("shape", "sharegpt"),)),
}


@dataclass(frozen=True)
class Work:
    """The form. `others` are the sets to merge with."""

    panel: gr.Column
    kind: gr.Dropdown
    others: gr.Dropdown
    form: Form
    problem: gr.HTML
    start: gr.Button
    close: gr.Button

    @property
    def shaped(self) -> list[gr.blocks.Block]:
        """What follows from the kind of work."""
        return [self.others, *self.form.components, self.problem]

    @property
    def values(self) -> list[gr.components.Component]:
        """What `on_start` reads, behind the name of the set."""
        return [self.kind, self.others, *self.form.components]


def draw() -> Work:
    """Draw the form, hidden."""
    with gr.Column(visible=False, elem_id="data-work") as panel:
        kind = gr.Dropdown(
            [(said(*each.label), name) for name, each in KINDS.items()],
            value="split", label=said("Make a new set", "生成新数据集"), elem_id="data-work-kind",
        )  # fmt: skip
        others = gr.Dropdown([], multiselect=True, label=said("Merge with", "合并对象"), elem_id="data-work-others")
        form = draw_some(DataConfig, FIELDS, {"column": []}, "work")
        problem = gr.HTML(elem_id="data-work-problem", elem_classes="maybe")
        with gr.Row(elem_classes="actions"):
            start = gr.Button(said("Start", "开始"), variant="primary", size="sm", elem_id="data-work-start")
            close = gr.Button(said("Close", "关闭"), size="sm", min_width=80)
    return Work(panel, kind, others, form, problem, start, close)


def wire(ctx: Context, table: gr.HTML, opener: gr.Button, work: Work) -> None:
    """Wire it; `opener` shows it."""
    opener.click(partial(on_open, ctx, work.form), [table, work.kind], [work.panel, *work.shaped], **TOLD)
    work.kind.change(partial(on_kind, ctx, work.form), [table, work.kind], work.shaped, **QUIET)
    work.close.click(lambda: gr.update(visible=False), None, work.panel, **QUIET)
    started = work.start.click(
        partial(on_start, ctx, work.form), [table, *work.values], [work.panel, work.problem], **TOLD
    )
    started.then(None, js=jobs.SHOW)


@shown
def on_open(ctx: Context, form: Form, name: str, kind: str) -> list[Any]:
    """Show the form for the chosen set."""
    return [gr.update(visible=True), *on_kind(ctx, form, name, kind)]


def on_kind(ctx: Context, form: Form, name: str, kind: str) -> list[Any]:
    """Show what the kind of work takes, with what it begins with."""
    chosen = KINDS[kind]
    others = [other for other in choices.datasets(ctx) if other != name]
    given = form.write({"seed": 42, **dict(chosen.start), "rows": _some_rows(ctx, name)})
    updates = [
        gr.update(visible=option.key in (*chosen.fields, *ALWAYS), value=value)
        for option, value in zip(form.options, given, strict=True)
    ]
    at = FIELDS.index("column")
    if "column" in chosen.fields:
        updates[at] = gr.update(visible=True, value=None, choices=_columns(ctx, name))
    return [gr.update(visible=kind == "merge", choices=others, value=[]), *updates, ""]


@shown
def on_start(ctx: Context, form: Form, name: str, kind: str, others: list[str], *values: Any) -> tuple[Any, str]:
    """Start the work. Its line above the rows tells how far it is, and what it made."""
    chosen = KINDS[kind]
    if not name:
        raise DatasetError("choose a dataset in the list first")
    given = {key: value for key, value in form.read(values).items() if key in (*chosen.fields, *ALWAYS)}
    names = [name, *others] if kind == "merge" else [name]
    jobs.start(ctx, load.parse(DataConfig, {**given, "action": chosen.action, "dataset": names}))
    return gr.update(visible=False), ""


def _some_rows(ctx: Context, name: str) -> int | None:
    """A size for a sample that can be drawn: SAMPLE_ROWS, or half of a set that has fewer than twice as many."""
    try:
        total = preview.page(ctx.registry, name, 0, 1).total
    except DatasetError:
        return None
    return SAMPLE_ROWS if total is None else min(SAMPLE_ROWS, (total + 1) // 2)


def _columns(ctx: Context, name: str) -> list[str]:
    try:
        return drafts.columns(ctx.registry.file(name))
    except DatasetError:
        return []
