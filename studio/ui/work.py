"""Work on a dataset as the page shows it: a data run that is begun once, looked at again and again, and stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from studio.config import load
from studio.config.data import DataConfig
from studio.errors import SeedbedError
from studio.runs import launchers
from studio.runs.run import ACTIVE, Run, State
from studio.runs.summary import of as summary_of
from studio.settings import ASSETS
from studio.ui.context import Context

View = dict[str, Any]


def script(name: str) -> str:
    """The script of a panel, behind what all panels share."""
    return "".join((ASSETS / "web" / part).read_text(encoding="utf-8") for part in ("work.js", name))


def answered(handler: Callable[[Any], View | None]) -> Callable[[Any], View | None]:
    """A function that a panel asks: an error made for the user becomes its answer, `{"error": …}`."""

    @wraps(handler)
    def guarded(asked: Any) -> View | None:
        try:
            return handler(asked)
        except SeedbedError as error:
            return {"error": str(error)}

    return guarded


def begin(ctx: Context, values: Mapping[str, Any]) -> Run:
    """Start the work that `values` ask for; the run that does the very same already is taken instead of a second.

    Raises:
        ConfigError: it cannot be asked for like this.
        RunError: it could not be started.
    """
    config = load.parse(DataConfig, {**values, "dataset_dir": str(ctx.settings.data_dir)})
    for run in ctx.store.list("data"):
        if run.config == config and run.is_active:
            return run
    run = ctx.store.create(config)
    try:
        launchers.start(run)
    except SeedbedError:
        ctx.store.trash(run)
        raise
    return run


def latest(ctx: Context, action: str, name: str) -> Run | None:
    """The newest run that does `action` to the set called `name`, ended or not."""
    return next((run for run in ctx.store.list("data") if _does(run, action, name)), None)


def view(run: Run) -> View:
    """A run in plain values: id, state, active, progress (0..1 or None), message (the reason of a failure), eta_s."""
    summary = summary_of(run)
    active = State(summary.state) in ACTIVE
    figures = {key: getattr(summary, key) for key in ("id", "state", "progress", "message", "eta_s")}
    return {**figures, "active": active}


def _does(run: Run, action: str, name: str) -> bool:
    config = run.config
    return isinstance(config, DataConfig) and config.action == action and name in config.dataset
