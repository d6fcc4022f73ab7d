"""The Runs tab: every run there is, and everything about the chosen one, live."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from studio import planning
from studio.config import load
from studio.config.command import command
from studio.errors import RunNotFound
from studio.files import tail
from studio.planning.advice import sentence
from studio.runs import launchers, resumption
from studio.runs.run import ACTIVE, UNKNOWN_KIND, Run, State
from studio.runs.summary import Summary
from studio.runs.summary import of as summary_of
from studio.ui import cards, live
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.looks import Look
from studio.ui.panel import QUIET
from studio.ui.tabs import runs_checkpoints, runs_processes
from studio.ui.text import said

POLL_S = 1.0
LOG_BYTES = 16_000
PANELS = 4  # that hold the id of the chosen run and ask for themselves
RETRY = said("Retry with", "重试，改用")
ON_CHECKPOINTS = "document.querySelector('#run-checkpoints .panel').dispatchEvent(new Event"


@dataclass(frozen=True)
class RunsTab:
    """What other tabs listen to or change: the table holds the id of the chosen run."""

    table: gr.HTML
    timer: gr.Timer
    checkpoints: gr.HTML
    merge: gr.Button
    push: gr.Button
    chat: gr.Button
    again: gr.Button
    retry: gr.Button


@dataclass(frozen=True)
class Actions:
    """What can be done with the chosen run; `buttons` in the order of `_buttons`, then the one of `_retry`."""

    row: gr.Row
    stop: gr.Button
    stop_now: gr.Button
    save: gr.Button
    resume: gr.Button
    change: gr.Button
    chat: gr.Button
    merge: gr.Button
    push: gr.Button
    again: gr.Button
    delete: gr.Button
    retry: gr.Button

    @property
    def buttons(self) -> list[gr.Button]:
        running = [self.stop, self.stop_now, self.save, self.resume, self.change]
        return [*running, self.chat, self.merge, self.push, self.again, self.delete, self.retry]


def build(ctx: Context) -> RunsTab:
    """Draw the tab and wire it."""
    table = live.runs_table(ctx)
    seen, timer = gr.State(""), gr.Timer(POLL_S, active=False)
    status = gr.HTML(elem_id="run-status")
    actions = _actions()
    confirm = _deletion(ctx, table, actions.delete)
    processes = runs_processes.draw(ctx)
    live.notes()
    charts, remarks = live.curves(ctx), live.remarks(ctx)
    kept = runs_checkpoints.draw(ctx)
    with gr.Accordion(said("Log", "日志"), open=False):
        log = gr.Textbox(lines=14, max_lines=14, show_label=False, autoscroll=True, elem_id="run-log", buttons=["copy"])
    with gr.Accordion(said("Configuration", "配置"), open=False):
        yaml = gr.Code(language="yaml", interactive=False, show_label=False)
        shell = gr.Code(language="shell", interactive=False, show_label=False, lines=2)

    picks = [table.select, table.change]
    Look().on(picks, partial(on_select, ctx), [table], [charts, remarks, processes, kept, yaml, shell, confirm])
    state = [timer, seen, status, log, actions.row, *actions.buttons]
    Look().on([*picks, timer.tick], partial(on_look, ctx), [table, seen], state)
    for button, name in ((actions.stop, "STOP"), (actions.stop_now, "STOP_NOW"), (actions.save, "SAVE")):
        button.click(partial(on_request, ctx, name), table, None, api_name=f"{name.lower()}_run")
    actions.resume.click(partial(on_resume, ctx), table, table, api_name="resume_run")
    actions.change.click(None, js=f"() => {ON_CHECKPOINTS}('seedbed:resume'))")
    _go_on(ctx, kept, table)
    return RunsTab(table, timer, kept, actions.merge, actions.push, actions.chat, actions.again, actions.retry)


def _go_on(ctx: Context, kept: gr.HTML, table: gr.HTML) -> None:
    """What a person asks of a checkpoint. Through the queue, so that an error reaches the page."""

    def resume(event: gr.EventData) -> str:
        return runs_checkpoints.on_resume(ctx, event.run, event.step, event.scope, event.changes)

    def consolidate(event: gr.EventData) -> None:
        runs_checkpoints.on_consolidate(ctx, event.run, event.step)

    told: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    kept.resume(resume, None, table, **told)
    kept.consolidate(consolidate, None, None, **told).then(None, js=f"() => {ON_CHECKPOINTS}('seedbed:look'))")


def _actions() -> Actions:
    with gr.Row(elem_classes="actions") as row:
        return Actions(
            row,
            _action("Stop and save", "停止并保存", "run-stop"),
            _action("Stop now", "立即停止", "run-stop-now"),
            _action("Save now", "立即保存", "run-save"),
            _action("Resume", "继续训练", "run-resume"),
            _action("Resume with changes …", "更改后继续…", "run-resume-changed"),
            _action("Chat with it", "对话", "run-chat"),
            _action("Merge", "合并", "run-merge"),
            _action("Upload", "上传", "run-push"),
            _action("Use these settings again", "再次使用这些设置", "run-again"),
            _action("Delete", "删除", "run-delete", "stop"),
            _action("Retry", "重试", "run-retry", "primary"),
        )


def _action(english: str, chinese: str, elem_id: str, variant: str = "secondary") -> gr.Button:
    return gr.Button(
        said(english, chinese), elem_id=elem_id, size="sm", variant=variant, min_width=90, interactive=False
    )


def _deletion(ctx: Context, table: gr.HTML, delete: gr.Button) -> gr.Row:
    """Ask, move to the trash, offer to undo. The row that asks is hidden when another run is chosen."""
    trashed = gr.State("")
    with gr.Row(visible=False, elem_classes="actions") as confirm:
        gr.Markdown(said("Move this run to the trash?", "把该运行移到回收站？"))
        yes = gr.Button(said("Move to trash", "移到回收站"), elem_id="run-delete-yes", size="sm", variant="stop")
        no = gr.Button(said("Keep it", "保留"), size="sm")
    with gr.Row(visible=False, elem_classes="actions") as undo_row:
        gr.Markdown(said("The run is in the trash.", "该运行已移到回收站。"))
        undo = gr.Button(said("Undo", "撤销"), elem_id="run-delete-undo", size="sm")
    delete.click(partial(gr.update, visible=True), None, confirm, **QUIET)
    no.click(partial(gr.update, visible=False), None, confirm, **QUIET)
    yes.click(partial(on_delete, ctx), table, [table, trashed, confirm, undo_row], api_name="delete_run")
    undo.click(partial(on_undo, ctx), trashed, [table, undo_row], api_name="restore_run")
    return confirm


def on_select(ctx: Context, run_id: str) -> list[Any]:
    """What stays as it is of a run that was just chosen; the panels ask for the rest themselves."""
    run = _find(ctx, run_id)
    if run is None:
        return [*[""] * PANELS, "", "", gr.update(visible=False)]
    known = run.kind != UNKNOWN_KIND  # if not, its config cannot be read; its state says so
    told = (load.dump(run.config), command(run.config)) if known else ("", "")
    return [*[run.id] * PANELS, *told, gr.update(visible=False)]


def on_look(ctx: Context, run_id: str, seen: str) -> list[Any]:
    """What changed about the chosen run since the last look; most often nothing, which costs nothing."""
    run = _find(ctx, run_id)
    if run is None:
        return _nothing()
    if _fingerprint(run) == seen:
        clock = gr.skip() if run.is_active else gr.Timer(active=False)  # nothing more will happen to an ended run
        return [clock, *[gr.skip()] * (len(_nothing()) - 1)]
    return _view(ctx, run)


@shown
def on_request(ctx: Context, name: str, run_id: str) -> None:
    """Pass on STOP, STOP_NOW or SAVE. The answer comes from the run itself, through its state."""
    run = ctx.store.get(run_id)
    if name == "STOP":
        run.stop()
    elif name == "STOP_NOW":
        run.stop_now()
    else:
        run.request(name)


@shown
def on_resume(ctx: Context, run_id: str) -> str:
    """Go on from the last complete checkpoint, in a new run that is then shown; what is passed over is told."""
    run = ctx.store.get(run_id)
    for warning in resumption.judge(run).warnings:
        gr.Warning(warning)
    return launchers.start_new(ctx.store, ctx.store.resume(run)).id


@shown
def on_delete(ctx: Context, run_id: str) -> tuple[str, str, Any, Any]:
    """Move an ended run to the trash and offer to undo it."""
    run = ctx.store.get(run_id)
    ctx.store.trash(run)
    return "", run.id, gr.update(visible=False), gr.update(visible=True)


@shown
def on_undo(ctx: Context, run_id: str) -> tuple[str, Any]:
    """Bring the run back."""
    return ctx.store.restore(run_id).id, gr.update(visible=False)


def _find(ctx: Context, run_id: str) -> Run | None:
    try:
        return ctx.store.get(run_id) if run_id else None
    except RunNotFound:
        return None


def _fingerprint(run: Run) -> str:
    """Changes when anything that is shown may have changed."""
    names = ("status.json", "exit.json", "log.txt", "CLAIM", "STOP", "STOP_NOW", "worker.json", "error.json")
    stamps = [(run.path / name).stat().st_mtime_ns for name in names if (run.path / name).exists()]
    return f"{run.id}:{run.state}:{stamps}"


def _view(ctx: Context, run: Run) -> list[Any]:
    summary = summary_of(run)
    return [
        gr.Timer(active=State(summary.state) in ACTIVE),
        _fingerprint(run),
        _status(run, summary),
        tail(run.log, LOG_BYTES),
        gr.update(visible=True),
        *_buttons(run, State(summary.state)),
        _retry(ctx, run, State(summary.state)),
    ]


def _nothing() -> list[Any]:
    hint = '<p class="empty">Choose a run above to see its curves, its log and what can be done with it.</p>'
    none = [*[gr.update(interactive=False)] * 10, gr.update(visible=False)]
    return [gr.Timer(active=False), "", hint, "", gr.update(visible=False), *none]


def _buttons(run: Run, state: State) -> list[Any]:
    active, training = state in ACTIVE, run.kind == "train"
    output = run.output
    can = (
        active and training and state is not State.STOPPING,
        active,
        training and state is State.RUNNING,
        *[training and not active and bool(run.checkpoints())] * 2,
        output is not None and output.name in ("adapter", "model"),
        output is not None and output.name == "adapter",
        output is not None,
        training,
        not active,
    )
    return [gr.update(interactive=possible) for possible in can]


def _retry(ctx: Context, run: Run, state: State) -> Any:
    """The button of a failed run that says what another try would have instead."""
    machine = planning.look(ctx.settings.saves_dir)
    changes = planning.another_try(run, ctx.registry, machine) if state is State.FAILED else {}
    if not changes:
        return gr.update(visible=False)
    return gr.update(visible=True, interactive=True, value=f"{RETRY} {sentence(changes)}")


def _status(run: Run, summary: Summary) -> str:
    told = cards.failure(run, summary) or cards.outcome(run)
    return cards.head(summary) + cards.bar(summary) + told + cards.paths(run)
