"""What those who answer are called, for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from studio.errors import RunNotFound
from studio.models import display_name
from studio.runs.store import Store
from studio.serving.remotes import PICK


def names(store: Store, picks: Iterable[str]) -> dict[str, str]:
    """A name for each pick. Two that would be called the same keep their picks."""
    picks = list(dict.fromkeys(picks))
    called = {pick: name(store, pick) for pick in picks}
    taken = list(called.values())
    return {pick: short if taken.count(short) == 1 else pick for pick, short in called.items()}


def name(store: Store, pick: str) -> str:
    """The name of the run that made it, with the checkpoint's if it is one; else its folder's or its own."""
    folder = Path(pick)
    if not folder.is_absolute():
        return _of_run(store, pick) or pick.removeprefix(PICK)
    owner = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    if named := _of_run(store, owner.name):
        return named if folder.name in ("adapter", "model") else f"{named} · {folder.name}"
    return Path(display_name(pick)).name


def _of_run(store: Store, run_id: str) -> str:
    try:
        run = store.get(run_id)
    except RunNotFound:
        return ""
    return run.name
