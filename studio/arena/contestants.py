"""What those who answer are called, for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from studio.errors import RunNotFound
from studio.models import display_name
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving.remotes import PICK


def names(store: Store, picks: Iterable[str]) -> dict[str, str]:
    """A name for each pick. Of runs that are called the same the id is told too, of anything else the whole pick."""
    picks = list(dict.fromkeys(picks))
    called = {pick: _name(store, pick) for pick in picks}
    taken = list(called.values())
    return {pick: name if taken.count(name) == 1 else _long(store, pick, name) for pick, name in called.items()}


def _name(store: Store, pick: str) -> str:
    """The name of the run that made it, with the checkpoint's if it is one; else its folder's or its own."""
    folder = Path(pick)
    if run := _run(store, pick):
        is_output = not folder.is_absolute() or folder.name in ("adapter", "model")
        return run.name if is_output else f"{run.name} · {folder.name}"
    return Path(display_name(pick)).name if folder.is_absolute() else pick.removeprefix(PICK)


def _long(store: Store, pick: str, name: str) -> str:
    run = _run(store, pick)
    return f"{name} · {run.id}" if run else pick


def _run(store: Store, pick: str) -> Run | None:
    """The run of that id, or the one that made what is in that folder."""
    folder = Path(pick)
    owner = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    try:
        return store.get(owner.name if folder.is_absolute() else pick)
    except RunNotFound:
        return None
