"""Files that wait to be registered: what each is taken for, one opened at a time, corrected by hand, checked, added."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr

from studio.config.data import DataConfig
from studio.datasets import preview
from studio.datasets.detect import SAMPLE_ROWS, SURE, Proposal, propose_for
from studio.datasets.entry import dump
from studio.datasets.reading import rows, stem_of
from studio.datasets.registry import Registry
from studio.datasets.upload import MAX_BYTES, Accepted, accept
from studio.errors import DatasetError, RowError
from studio.ui import jobs, mapping, turns
from studio.ui.context import Context
from studio.ui.looks import Look
from studio.ui.panel import LATEST
from studio.ui.panel import draw as draw_panel
from studio.ui.tabs.datasets.rows import TOLD
from studio.ui.text import said

SAMPLED_ROWS = 3
SHOWN_CHARS = 4000
UPLOADS_AT_ONCE = 4
PROGRESS = gr.Progress()
REGISTER, SAVE = said("Register", "注册"), said("Save", "保存")


@dataclass(frozen=True)
class Draft:
    """One file that waits. `values` are those of `mapping.Fields`, as detected or as corrected since.

    A `lent` file is a person's own, on this machine: it is copied, never moved or removed. A file that `stays` is that
    of a set which is registered already: only how it is read changes. `problem` says why the file could not be read or
    registered.
    """

    path: str
    name: str
    columns: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    guess: str = ""
    confidence: float = 0.0
    problem: str = ""
    lent: bool = False
    stays: bool = False

    @property
    def file_name(self) -> str:
        return Path(self.path).name

    @property
    def is_sure(self) -> bool:
        """Whether it can be registered without being looked at."""
        return self.confidence >= SURE and not self.problem


@dataclass(frozen=True)
class Guess:
    """The list of files that wait, and what the opened one is taken for."""

    panel: gr.Column
    waiting: gr.HTML
    sure: gr.Button
    card: gr.HTML
    name: gr.Textbox
    fields: mapping.Fields


@dataclass(frozen=True)
class Sample:
    """The first rows read so, and the way to accept or leave it."""

    panel: gr.Column
    register: gr.Button
    cancel: gr.Button
    verdict: gr.HTML
    rows: gr.HTML
    shell: gr.Code
    entry: gr.Code

    @property
    def follows(self) -> list[gr.components.Component]:
        """What follows from the guess."""
        return [self.verdict, self.rows, self.shell, self.entry, self.register]


@dataclass(frozen=True)
class Desk:
    """All of it. `drafts` are the files that wait, `opened` is the path of one of them; both empty where none waits.

    While one does, the desk stands in the place of `others`. `reread` changes when a registered set was read anew.
    """

    guess: Guess
    sample: Sample
    drafts: gr.State
    opened: gr.State
    reread: gr.State
    look: Look
    others: tuple[gr.Column, gr.Column, gr.Column]

    @property
    def laid(self) -> list[gr.blocks.Block]:
        """What `lay` fills."""
        guess = self.guess
        about = [guess.waiting, guess.sure, guess.card, guess.name, *guess.fields.components, guess.fields.names]
        panels = [guess.panel, self.sample.panel, *self.others]
        return [self.drafts, self.opened, *about, self.sample.register, *panels]

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The files that wait, the opened one, and how it is to be read."""
        return [self.drafts, self.opened, self.guess.name, *self.guess.fields.components]


def draw_guess() -> Guess:
    """Draw the fields that say what the columns mean."""
    with gr.Column(visible=False, elem_id="draft") as panel:
        waiting = draw_panel("drafts", [], value="[]")
        sure = gr.Button(said("Register all that are sure", "注册所有确定的文件"), size="sm", elem_id="data-sure")
        card = gr.HTML(elem_id="data-guess")
        name = gr.Textbox(label=said("Name", "名称"), elem_id="data-name", max_lines=1)
        fields = mapping.draw()
    return Guess(panel, waiting, sure, card, name, fields)


def draw_sample() -> Sample:
    """Draw the first rows and the buttons above them."""
    with gr.Column(visible=False, elem_id="draft-sample") as panel:
        with gr.Row(elem_classes="actions"):
            register = gr.Button(REGISTER, variant="primary", elem_id="data-register", min_width=140)
            cancel = gr.Button(said("Cancel", "取消"), elem_id="data-cancel", min_width=100)
        verdict = gr.HTML(elem_id="data-verdict", elem_classes="maybe")
        gr.Markdown(said("### The first rows", "### 前几行"))
        rows = gr.HTML(elem_id="data-sample")
        title = said("As a command and an entry of dataset_info.json", "等价命令与 dataset_info.json 条目")
        with gr.Accordion(title, open=False):
            shell = gr.Code(language="shell", interactive=False, show_label=False, lines=1)
            entry = gr.Code(language="json", interactive=False, show_label=False)
    return Sample(panel, register, cancel, verdict, rows, shell, entry)


def states() -> tuple[gr.State, gr.State, gr.State, Look]:
    """What a desk remembers. Files of a page that is long gone are removed."""
    return gr.State((), delete_callback=discard), gr.State(""), gr.State(0), Look()


def wire(ctx: Context, desk: Desk, chosen: gr.HTML, notice: gr.HTML) -> None:
    """Wire the desk. What was registered last is `chosen`, and told in `notice`."""
    guess, sample, fields = desk.guess, desk.sample, desk.guess.fields
    desk.look.on([field.input for field in (guess.name, *fields.components)], on_mapping, desk.inputs, sample.follows)
    for control in (fields.format, fields.ranked):
        desk.look.after(control.input(mapping.reshaped, [fields.format, fields.ranked], fields.shaped, **LATEST))

    def open_draft(event: gr.EventData, *values: Any) -> list[Any]:
        return on_open(int(event.index), *values)

    def leave_draft(event: gr.EventData, *values: Any) -> list[Any]:
        return on_leave(int(event.index), *values)

    desk.look.after(guess.waiting.select(open_draft, desk.inputs, desk.laid, **TOLD))
    desk.look.after(guess.waiting.delete(leave_draft, desk.inputs, desk.laid, **TOLD))
    sample.cancel.click(on_cancel, desk.drafts, desk.laid, **TOLD)
    done = [sample.verdict, chosen, notice, desk.reread, *desk.laid]
    for button, handler, api_name in (
        (sample.register, on_register, "register_dataset"),
        (guess.sure, on_register_sure, "register_sure_datasets"),
    ):
        desk.look.after(button.click(
            partial(handler, ctx), desk.inputs, done,
            show_progress_on=sample.rows, concurrency_limit=UPLOADS_AT_ONCE, api_name=api_name,
        ))  # fmt: skip


def read(path: str, lent: bool = False) -> Draft:
    """What the file at `path` seems to be, or the problem with it."""
    source = Path(path)
    try:
        proposal, found = propose_for(source), columns(source)
        if not found:
            return Draft(path, "", problem=f"{source.name} is empty: it has no rows", lent=lent)
    except DatasetError as error:
        told = str(error)
        return Draft(path, "", problem=told if told.startswith(source.name) else f"{source.name}: {told}", lent=lent)
    values = tuple(mapping.values(proposal.entry("sample", "sample"), found))
    name = stem_of(source.name) or source.name
    return Draft(path, name, tuple(found), values, _guess(proposal), proposal.confidence, lent=lent)


def reread(registry: Registry, name: str) -> Draft:
    """A registered set, to say anew what its columns mean.

    Raises:
        DatasetError: its file cannot be read.
    """
    entry, source = registry.entry(name), registry.file(name)
    found = columns(source)
    told = turns.lines_html(f"What the columns of {name} mean. Its file stays as it is.", "wait")
    values = tuple(mapping.values(entry, found))
    return Draft(str(source), name, tuple(found), values, told, lent=True, stays=True)


def columns(source: Path) -> list[str]:
    """Every column of the first rows, in the order of their appearance.

    Raises:
        DatasetError: the file cannot be read.
    """
    first = (record for _, record in islice(rows(source), SAMPLE_ROWS))
    return list(dict.fromkeys(name for record in first if not isinstance(record, RowError) for name in record))


def add(found: Sequence[Draft], drafts: Sequence[Draft], opened: str, name: str, *fields: Any) -> list[Any]:
    """Values of the problem card and of `Desk.laid` after `found` came in; what is unreadable is told and forgotten."""
    bad = [draft for draft in found if draft.problem]
    discard(bad)
    known = {draft.path for draft in drafts}
    good = [draft for draft in found if not draft.problem and draft.path not in known]
    kept = [*_corrected(drafts, opened, name, fields), *good]
    problem = "".join(turns.lines_html(draft.problem, "bad") for draft in bad)
    return [problem, *lay(kept, opened or (kept[0].path if kept else ""))]


def refuse(problem: str) -> list[Any]:
    """Values of the problem card and of `Desk.laid` where nothing came in; the desk stays as it is."""
    return [turns.lines_html(problem, "bad"), *[gr.skip()] * len(lay((), ""))]


def lay(drafts: Sequence[Draft], opened: str) -> list[Any]:
    """Values of `Desk.laid`."""
    draft = next((draft for draft in drafts if draft.path == opened), None)
    several, sure = len(drafts) > 1, sum(draft.is_sure for draft in drafts)
    about = (
        [
            draft.guess,
            gr.update(value=draft.name, interactive=not draft.stays),
            *mapping.updates(draft.values, draft.columns),
            gr.update(value=SAVE if draft.stays else REGISTER),
        ]
        if draft
        else ["", "", *[gr.skip()] * (1 + mapping.FIELD_COUNT)]
    )
    return [
        tuple(drafts),
        draft.path if draft else "",
        gr.update(value=_listed(drafts, opened), visible=several),
        gr.update(visible=several and sure > 0),
        *about,
        *[gr.update(visible=bool(draft))] * 2,
        *[gr.update(visible=not draft)] * 3,
    ]


def on_open(index: int, drafts: Sequence[Draft], opened: str, name: str, *fields: Any) -> list[Any]:
    """Look at another file; what was corrected so far is kept."""
    kept = _corrected(drafts, opened, name, fields)
    return lay(kept, kept[index].path if index in range(len(kept)) else opened)


def on_leave(index: int, drafts: Sequence[Draft], opened: str, name: str, *fields: Any) -> list[Any]:
    """Forget one file."""
    kept = _corrected(drafts, opened, name, fields)
    left = kept[index : index + 1]
    discard(left)
    return _go_on(kept, [draft.path for draft in left], opened)


def on_cancel(drafts: Sequence[Draft]) -> list[Any]:
    """Forget all files."""
    discard(drafts)
    return lay((), "")


def on_mapping(drafts: Sequence[Draft], opened: str, name: str, *fields: Any) -> list[Any]:
    """What follows from the fields: what is missing, the first rows, the command, the entry, the button."""
    draft = next((draft for draft in drafts if draft.path == opened), None)
    if draft is None:
        return [gr.skip()] * 5
    source = Path(draft.path)
    try:
        entry = mapping.read(fields).entry(name, _stored_name(source, name))
        sample = preview.sample(source, entry, SAMPLED_ROWS)
    except DatasetError as error:
        if not source.exists():  # it was left meanwhile
            return [gr.skip()] * 5
        found = turns.rows_html(_as_they_are(source))
        return [turns.lines_html(str(error), "wait"), found, "", "", gr.update(interactive=False)]
    spec = json.dumps({name: dump(entry)}, ensure_ascii=False, indent=2)
    where = draft.path if draft.lent else source.name
    command = shlex.join(["python", "-m", "studio", "data", "add", where, "--name", entry.file_name])
    shell = "" if draft.stays else command
    problem = turns.lines_html(draft.problem, "bad") if draft.problem else ""
    return [problem, turns.rows_html(sample), shell, spec, gr.update(interactive=bool(name.strip()))]


def on_register(ctx: Context, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
    """Register the opened file and open the next; what is wrong is told, and then nothing is left behind."""
    drafts, opened, name, *fields = values
    kept = _corrected(drafts, opened, name, fields)
    return _register(ctx, kept, [draft for draft in kept if draft.path == opened], opened, progress)


def on_register_sure(ctx: Context, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
    """Register every file whose shape is sure; those that cannot be stay, and say why."""
    drafts, opened, name, *fields = values
    kept = _corrected(drafts, opened, name, fields)
    return _register(ctx, kept, [draft for draft in kept if draft.is_sure], opened, progress)


def discard(drafts: Sequence[Draft]) -> None:
    """Remove files that wait. Also called when the page they waited on is long gone."""
    for draft in drafts:
        with suppress(OSError):
            if not draft.lent:
                Path(draft.path).unlink()
                Path(draft.path).parent.rmdir()


def _register(
    ctx: Context, kept: Sequence[Draft], wanted: Sequence[Draft], opened: str, progress: gr.Progress
) -> list[Any]:
    """Values of the verdict, the chosen set, the notice, `Desk.reread` and `Desk.laid`."""
    stored, failed = [], {}
    for draft in wanted:
        try:
            stored.append((draft, *_store(ctx, draft, progress)))
        except DatasetError as error:
            failed[draft.path] = replace(draft, problem=str(error))
    done = [draft for draft, *_ in stored]
    discard(done)
    laid = _go_on([failed.get(draft.path, draft) for draft in kept], [draft.path for draft in done], opened)
    if not stored:
        problems = "".join(turns.lines_html(draft.problem, "bad") for draft in failed.values())
        return [problems, gr.skip(), gr.skip(), gr.skip(), *laid]
    reread = time.time_ns() if any(draft.stays for draft in done) else gr.skip()
    return ["", stored[-1][1], "".join(notice for _, _, notice in stored), reread, *laid]


def _store(ctx: Context, draft: Draft, progress: gr.Progress) -> tuple[str, str]:
    """The name of the set that one file became, and what to tell of it."""
    proposal = mapping.read(draft.values)
    if draft.stays:
        before = ctx.registry.entry(draft.name)
        read = proposal.entry(draft.name, before.file_name)
        parts = ("formatting", "ranking", "columns", "tags", "mapped")
        ctx.registry.replace(replace(before, **{part: getattr(read, part) for part in parts}))
        return draft.name, turns.lines_html(f"{draft.name} is read anew.", "good")
    accepted = _accept(ctx, draft, proposal, progress)
    return accepted.entry.name, _registered(accepted)


def _accept(ctx: Context, draft: Draft, proposal: Proposal, progress: gr.Progress) -> Accepted:
    """Register one file; where it is too large to be checked at once, that goes on behind the page."""
    source = Path(draft.path)
    told = _telling(progress, draft.file_name)
    name, limit = _stored_name(source, draft.name), None if draft.lent else MAX_BYTES
    accepted = accept(
        source, name, ctx.registry.data_dir, proposal, owned=not draft.lent, max_bytes=limit, progress=told
    )
    if not accepted.whole:
        jobs.start(ctx, DataConfig(action="check", dataset=(accepted.entry.name,)))
    return accepted


def _corrected(drafts: Sequence[Draft], opened: str, name: str, fields: Sequence[Any]) -> list[Draft]:
    """The drafts, with what a person did to the opened one."""
    return [replace(each, name=name, values=tuple(fields)) if each.path == opened else each for each in drafts]


def _go_on(drafts: Sequence[Draft], gone: Sequence[str], opened: str) -> list[Any]:
    """Values of `Desk.laid` without the drafts that are gone; the next one is opened if the opened one is gone."""
    left = [draft for draft in drafts if draft.path not in gone]
    if opened in gone:
        opened = left[0].path if left else ""
    return lay(left, opened)


def _listed(drafts: Sequence[Draft], opened: str) -> str:
    """The list of files as its script in the page reads it."""
    return json.dumps(
        [
            {
                "file_name": draft.file_name,
                "shape": _label(draft),
                "sure": draft.is_sure,
                "confidence": draft.confidence,
                "problem": draft.problem,
                "opened": draft.path == opened,
            }
            for draft in drafts
        ]
    )


def _label(draft: Draft) -> str:
    try:
        return mapping.label_of(mapping.read(draft.values))
    except DatasetError:
        return ""


def _as_they_are(source: Path) -> list[preview.Shown]:
    """The first rows as the file holds them, for a person who has to say what they mean."""
    first = [(mark.row, record) for mark, record in islice(rows(source), SAMPLED_ROWS)]
    return [
        preview.Shown(row, (), error=str(record))
        if isinstance(record, RowError)
        else preview.Shown(row, (), raw=json.dumps(record, ensure_ascii=False, indent=1)[:SHOWN_CHARS])
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
    """What became of a file, in few lines: the Checks panel has the rows and the repairs."""
    report = accepted.report
    grave = [finding for finding in report.findings if finding.severity != "info"]
    told = [f"{finding.title}: {finding.count:,}" for finding in grave]
    if grave:
        repairs = " and repairs them" if any(finding.repair for finding in grave) else ""
        told.append(f"Checks shows the rows{repairs}{' before a training' if report.fatal else ''}.")
    lines = [f"Registered as {accepted.entry.name}: {report.counts}", *told]
    tone = "bad" if report.fatal else "wait" if report.left_out else "good"
    return turns.lines_html("\n".join(lines), tone)


def _telling(progress: gr.Progress, file_name: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        progress(done / total if total else 0, desc=f"Adding {file_name}")

    return tell


def _stored_name(source: Path, name: str) -> str:
    """The name that a person gave, with the extension of the file."""
    return name.strip() + source.name[len(stem_of(source.name)) :]
