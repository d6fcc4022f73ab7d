"""Work on datasets as lines with a bar: what runs now, how the last of each kind ended, and what it made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from studio.config.data import DataConfig
from studio.errors import DatasetError
from studio.runs import launchers
from studio.runs.run import ACTIVE, Run, State
from studio.runs.summary import of as summary_of
from studio.ui import panel
from studio.ui.context import Context

IMPORTS = "import"
PANELS = ("check", "statistics")
DOUBLE_CLICK_S = 3.0
# work that was just begun is shown at once
SHOW = "() => document.querySelectorAll('.jobs-block').forEach((it) => it.dispatchEvent(new Event('seedbed:look')))"


def start(ctx: Context, config: DataConfig) -> str:
    """Create the work and start it; its id. A double click gets what its first half started.

    Raises:
        RunError: no process could be started. Nothing is left behind.
    """
    config = config.model_copy(update={"dataset_dir": str(ctx.registry.data_dir)})
    return launchers.begin(ctx.store, config, twin_within_s=DOUBLE_CLICK_S).id


def draw(ctx: Context, elem_id: str, subject: str = "") -> gr.HTML:
    """The lines about the set whose name is the value, or about all imports where it is IMPORTS.

    `end` fires when work ended, with the names of what it `made` if that took but a moment; `select` when a person
    opens one of them, with its `name`.
    """

    def jobs(subject: str) -> panel.Answer:
        return on_jobs(ctx, subject)

    def stop(run_id: str) -> None:
        ctx.store.get(run_id).stop()

    def dismiss(run_id: str) -> None:
        on_dismiss(ctx, run_id)

    def undo(run_id: str) -> None:
        on_undo(ctx, run_id)

    functions = [jobs, stop, dismiss, undo]
    return panel.draw("jobs", functions, value=subject, elem_id=elem_id, elem_classes="jobs-block")


def on_jobs(ctx: Context, subject: str) -> dict[str, Any]:
    """The lines about `subject`, newest first: all that is active, and the last of each action that ended."""
    known = set(_names(ctx))
    return {"jobs": [_job(run, known) for run in _latest(ctx, subject)]}


def on_dismiss(ctx: Context, run_id: str) -> None:
    """Put a line that was read away. Its run goes to the trash; what it made stays."""
    ctx.store.trash(ctx.store.get(run_id))


def on_undo(ctx: Context, run_id: str) -> None:
    """Move what a piece of work made to the trash, and its line with it."""
    for name in _made(ctx.store.get(run_id), set(_names(ctx))):
        ctx.registry.remove(name)
    on_dismiss(ctx, run_id)


def _latest(ctx: Context, subject: str) -> Iterator[Run]:
    seen: set[str] = set()
    for run in ctx.store.list("data"):
        config = run.config
        if isinstance(config, DataConfig) and _is_about(config, subject):
            if config.action not in seen or run.is_active:
                yield run
            seen.add(config.action)


def _is_about(config: DataConfig, subject: str) -> bool:
    return config.action == IMPORTS if subject == IMPORTS else subject in config.dataset


def _job(run: Run, known: set[str]) -> dict[str, Any]:
    """One line: `progress` is 0..1 or None, `eta_s` in seconds; `made` are the new sets that still exist. What is not
    `shown` has nothing to say but that it ended."""
    summary, title = summary_of(run), run.config.title
    active = summary.state in ACTIVE
    told = str(run.result.get("summary", "")) if summary.state == State.COMPLETED else summary.message
    return {
        "id": run.id,
        "title": title[:1].upper() + title[1:],
        "state": summary.state,
        "active": active,
        "progress": summary.progress,
        "message": told,
        "eta_s": summary.eta_s,
        "made": _made(run, known),
        "shown": active or not _is_told_elsewhere(run, summary.state),
    }


def _is_told_elsewhere(run: Run, state: str) -> bool:
    """What was stopped was stopped by a person; what a check or statistics found, if they did not fail, has a panel of
    its own."""
    found = state == State.COMPLETED and isinstance(run.config, DataConfig) and run.config.action in PANELS
    return found or state == State.STOPPED


def _made(run: Run, known: set[str]) -> list[str]:
    return [name for name in run.result.get("datasets", ()) if name in known]


def _names(ctx: Context) -> list[str]:
    try:
        return ctx.registry.names()
    except DatasetError:  # a damaged registry is told in the list
        return []
