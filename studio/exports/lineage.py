"""Which runs made a folder, and what of their files may be seen by strangers: no path of this computer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from studio import models
from studio.errors import ConfigError, RunNotFound
from studio.runs.run import Run
from studio.runs.store import Store

INPUTS = ("adapter_name_or_path", "model_name_or_path", "tuned_model_name_or_path")
PATH = re.compile(r"(?<![\w:/.])(?:~|[A-Za-z]:)?(?:[/\\][^\s|`'\"/\\]+){2,}[/\\]?")


def maker(store: Store, name: str) -> Run | None:
    """The run of that id, or the one that made the folder `name`; None for a folder of another origin."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        try:
            return store.get(name)
        except RunNotFound:
            return None
    folder, saves = folder.resolve(), store.saves.resolve()
    if folder.is_relative_to(saves) and folder != saves:
        return next((run for run in store.list() if folder.is_relative_to(run.path)), None)
    return next((run for run in store.list() if run.output and run.output.resolve() == folder), None)


def ancestry(store: Store, run: Run) -> tuple[Run, ...]:
    """`run` and the runs whose results it was made of, the last step first, each once."""
    found = [run]
    for each in found:  # grows while it is walked
        makers = (maker(store, name) for name in _inputs(each))
        found += [one for one in dict.fromkeys(makers) if one and one not in found]
    return tuple(found)


def public(text: str) -> str:
    """`text` with every path of this computer cut down to its last name, or to the hub id whose cache it is."""
    return public_name(text) if text.startswith("/") else PATH.sub(lambda match: public_name(match.group()), text)


def public_name(name: str) -> str:
    """How the world may know a model: its hub id, the bundled model's name, or a folder's last name."""
    if models.display_name(name) != name:
        return models.BUNDLED
    if cached := re.search(r"models--(.+?)--(.+?)(?:[/\\]|$)", name):
        return "/".join(cached.groups())
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if PATH.fullmatch(name) or Path(name).is_absolute() else name


def _inputs(run: Run) -> Iterator[str]:
    try:
        config = run.config
    except ConfigError:  # the run that made it was damaged since
        return
    for key in INPUTS:
        value = getattr(config, key, None) or ()
        yield from (value,) if isinstance(value, str) else value
