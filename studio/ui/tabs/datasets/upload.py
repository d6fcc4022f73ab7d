"""The way in for a new dataset: a file or pasted rows, read as detected, corrected by hand, checked and registered."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr

from studio.datasets import preview
from studio.datasets.detect import SAMPLE_ROWS, SURE, Proposal, propose_for
from studio.datasets.entry import dump
from studio.datasets.reading import READERS, format_name, rows
from studio.datasets.upload import Accepted, accept
from studio.errors import DatasetError, RowError
from studio.ui import mapping, turns
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.text import said

SAMPLED_ROWS = 3
SHOWN_CHARS = 4000
UPLOADS_AT_ONCE = 4
PROGRESS = gr.Progress()
EXAMPLE = '{"instruction": "Who are you?", "output": "I am Fern."}'


@dataclass(frozen=True)
class WayIn:
    """Where a file is dropped or rows are pasted, and what is wrong with them."""

    file: gr.File
    text: gr.Textbox
    look: gr.Button
    problem: gr.HTML


@dataclass(frozen=True)
class Guess:
    """What the file is taken for."""

    panel: gr.Column
    card: gr.HTML
    name: gr.Textbox
    fields: mapping.Fields


@dataclass(frozen=True)
class Sample:
    """The first rows read so, and the way to accept or leave it. `path` is the file that waits, empty where none."""

    panel: gr.Column
    register: gr.Button
    cancel: gr.Button
    verdict: gr.HTML
    rows: gr.HTML
    shell: gr.Code
    entry: gr.Code
    path: gr.State

    @property
    def follows(self) -> list[gr.components.Component]:
        """What follows from the guess."""
        return [self.verdict, self.rows, self.shell, self.entry, self.register]


def draw_way_in() -> WayIn:
    """Draw the drop zone."""
    label = said("Add a file: JSON, JSONL, CSV, TSV, TXT, Parquet", "添加文件：JSON、JSONL、CSV、TSV、TXT、Parquet")
    file = gr.File(file_types=[*READERS, ".gz"], height=172, label=label, elem_id="data-file")
    with gr.Accordion(said("Or paste a few rows", "或粘贴几行数据"), open=False, elem_id="data-paste"):
        text = gr.Textbox(lines=5, max_lines=12, show_label=False, placeholder=EXAMPLE, elem_id="data-pasted")
        look = gr.Button(said("Look at them", "查看"), size="sm", elem_id="data-look")
    return WayIn(file, text, look, gr.HTML(elem_id="data-problem", elem_classes="maybe"))


def draw_guess() -> Guess:
    """Draw the fields that say what the columns mean."""
    with gr.Column(visible=False, elem_id="draft") as panel:
        card = gr.HTML(elem_id="data-guess")
        name = gr.Textbox(label=said("Name", "名称"), elem_id="data-name", max_lines=1)
        fields = mapping.draw()
    return Guess(panel, card, name, fields)


def draw_sample() -> Sample:
    """Draw the first rows and the buttons above them."""
    with gr.Column(visible=False, elem_id="draft-sample") as panel:
        with gr.Row(elem_classes="actions"):
            register = gr.Button(said("Register", "注册"), variant="primary", elem_id="data-register", min_width=140)
            cancel = gr.Button(said("Cancel", "取消"), elem_id="data-cancel", min_width=100)
        verdict = gr.HTML(elem_id="data-verdict", elem_classes="maybe")
        gr.Markdown(said("### The first rows", "### 前几行"))
        rows = gr.HTML(elem_id="data-sample")
        title = said("As a command and an entry of dataset_info.json", "等价命令与 dataset_info.json 条目")
        with gr.Accordion(title, open=False):
            shell = gr.Code(language="shell", interactive=False, show_label=False, lines=1)
            entry = gr.Code(language="json", interactive=False, show_label=False)
    return Sample(panel, register, cancel, verdict, rows, shell, entry, gr.State("", delete_callback=discard))


def wire(
    ctx: Context, way_in: WayIn, guess: Guess, sample: Sample, chosen: gr.HTML, notice: gr.HTML, others: list[Any]
) -> None:
    """Wire the parts; while a file waits, they stand in the place of `others`. What was registered is `chosen`."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    fields = guess.fields
    taken = [way_in.problem, sample.path, guess.card, guess.name, *fields.components, fields.names]
    inputs = [sample.path, guess.name, *fields.components]
    follow = {"fn": on_mapping, "inputs": inputs, "outputs": sample.follows, "queue": False, **quiet}
    way_in.file.upload(on_file, way_in.file, taken, **quiet).then(**follow)
    way_in.look.click(on_paste, way_in.text, taken, **quiet).then(**follow)
    gr.on([field.input for field in (guess.name, *fields.components)], trigger_mode="always_last", **follow)
    for control in (fields.format, fields.ranked):
        given = [fields.format, fields.ranked]
        control.input(mapping.reshaped, given, fields.shaped, queue=False, **quiet).then(**follow)
    sample.path.change(on_draft, sample.path, [guess.panel, sample.panel, *others], queue=False, **quiet)
    sample.register.click(
        partial(on_register, ctx), inputs, [sample.verdict, chosen, notice, sample.path, way_in.file, way_in.text],
        show_progress_on=sample.rows, concurrency_limit=UPLOADS_AT_ONCE, api_name="register_dataset",
    )  # fmt: skip
    for leave in (sample.cancel.click, way_in.file.clear):
        # through the queue: a state that changes outside of it has no change event
        leave(on_cancel, sample.path, [sample.path, way_in.file, way_in.problem], **quiet)


def on_file(path: str) -> list[Any]:
    """A file that was just dropped: what is wrong with it, its path if it can be read, and what it seems to be."""
    source = Path(path)
    try:
        proposal, columns = propose_for(source), _columns(source)
    except DatasetError as error:
        told = str(error)
        return _refused(told if told.startswith(source.name) else f"{source.name}: {told}")
    if not columns:
        return _refused(f"{source.name} is empty: it has no rows")
    return ["", path, _guess(proposal), _stem(source.name), *mapping.write(proposal, columns)]


@shown
def on_paste(text: str) -> list[Any]:
    """Rows that were pasted, taken as a file: JSON objects, one a line, or a list of them."""
    if not text.strip():
        raise DatasetError(f"paste some rows first, for example {EXAMPLE}")
    suffix = ".json" if text.lstrip().startswith("[") else ".jsonl"
    source = Path(tempfile.mkdtemp(prefix="seedbed-"), f"pasted{suffix}")
    source.write_text(text, encoding="utf-8", errors="surrogatepass")
    problem, path, *guess = on_file(str(source))
    if not path:
        discard(str(source))
    return [problem, path, *guess]


def on_draft(path: str) -> list[Any]:
    """While a file waits, the two halves of its form are shown and the list and the chosen set are not."""
    return [gr.update(visible=bool(path))] * 2 + [gr.update(visible=not path)] * 2


def on_mapping(path: str, name: str, *fields: Any) -> list[Any]:
    """What follows from the fields: what is missing, the first rows, the command, the entry, the button."""
    if not path:
        return [gr.skip()] * 5
    source = Path(path)
    try:
        entry = mapping.read(fields).entry(name, _stored_name(source, name))
        sample = preview.sample(source, entry, SAMPLED_ROWS)
    except DatasetError as error:
        found = turns.rows_html(_as_they_are(source))
        return [turns.lines_html(str(error), "wait"), found, "", "", gr.update(interactive=False)]
    spec = json.dumps({name: dump(entry)}, ensure_ascii=False, indent=2)
    shell = shlex.join(["python", "-m", "studio", "data", "add", source.name, "--name", entry.file_name])
    return ["", turns.rows_html(sample), shell, spec, gr.update(interactive=bool(name.strip()))]


def on_register(ctx: Context, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
    """Check every row and register the file; what is wrong is listed, and then nothing is left behind."""
    path, name, *fields = values
    source = Path(path)
    progress(0, desc="Copying")
    try:
        file_name, proposal = _stored_name(source, name), mapping.read(fields)
        accepted = accept(source, file_name, ctx.registry.data_dir, proposal, progress=_checked(progress))
    except DatasetError as error:
        return [turns.lines_html(str(error), "bad"), *[gr.skip()] * 5]
    discard(path)
    return ["", accepted.entry.name, _registered(accepted), "", None, ""]


def on_cancel(path: str) -> tuple[str, None, str]:
    """Forget the file."""
    discard(path)
    return "", None, ""


def discard(path: str) -> None:
    """Remove a file that waits to be registered. Also called when the page it waited on is long gone."""
    with suppress(OSError):
        if path:
            Path(path).unlink()
            Path(path).parent.rmdir()


def _refused(problem: str) -> list[Any]:
    return [turns.lines_html(problem, "bad"), "", *[gr.skip()] * (2 + mapping.FIELD_COUNT)]


def _columns(source: Path) -> list[str]:
    """Every column of the first rows, in the order of their appearance."""
    first = (record for _, record in islice(rows(source), SAMPLE_ROWS))
    return list(dict.fromkeys(name for record in first if not isinstance(record, RowError) for name in record))


def _as_they_are(source: Path) -> list[preview.Shown]:
    """The first rows as the file holds them, for a person who has to say what they mean."""
    first = [(mark.row, record) for mark, record in islice(rows(source), SAMPLED_ROWS)]
    return [
        preview.Shown(row, (), error=str(record))
        if isinstance(record, RowError)
        else preview.Shown(row, (), raw=json.dumps(record, ensure_ascii=False, indent=1, default=str)[:SHOWN_CHARS])
        for row, record in first
    ]


def _guess(proposal: Proposal) -> str:
    if not proposal.columns:
        return turns.lines_html(f"Say which column is which.\n{proposal.reason}", "wait")
    sure = proposal.confidence >= SURE
    heading = "Read as" if sure else "A guess, please check it:"
    shape = f"{mapping.label_of(proposal)} · {proposal.confidence:.0%} sure"
    return turns.lines_html(f"{heading} {shape}\n{proposal.reason}", "good" if sure else "wait")


def _registered(accepted: Accepted) -> str:
    tone = "wait" if accepted.report.left_out else "good"
    return turns.lines_html(f"Registered as {accepted.entry.name}: {accepted.report.summary()}", tone)


def _checked(progress: gr.Progress) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        progress((done, total), desc="Checking every row", unit="bytes")

    return tell


def _stem(file_name: str) -> str:
    """The name without its extension; `.jsonl.gz` is one extension."""
    bare = file_name[:-3] if file_name.lower().endswith(".gz") else file_name
    return bare[: len(bare) - len(format_name(file_name))]


def _stored_name(source: Path, name: str) -> str:
    """The name that a person gave, with the extension of the file."""
    return name.strip() + source.name[len(_stem(source.name)) :]
