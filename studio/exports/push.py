"""What goes up to the hub, and whether it can: looked at before a process starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from studio.config.push import PushConfig
from studio.errors import ConfigError, Problem
from studio.exports import lineage
from studio.exports.plan import Plan, size
from studio.files import read_json
from studio.runs.run import Run
from studio.runs.store import Store

TOKEN = "HF_TOKEN"
LARGEST_BYTES = 50 * 10**9  # of one file, as the hub takes it over HTTP
JSON_MAX_BYTES = 1_000_000
# what a training needs to go on and nobody else needs; pickles among them
STATE = ("optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "trainer_state.json", "training_args.bin")
UNFINISHED = ("tmp", "quarantine")
# keys of JSON files under which libraries leave the place where a model lay
PLACES = ("base_model_name_or_path", "_name_or_path", "name_or_path", "name", "path")


@dataclass(frozen=True)
class Item:
    """One file of the repository: `content` instead of the file's own where that must not be seen by strangers."""

    name: str
    path: Path
    size_bytes: int
    content: bytes | None = None


@dataclass(frozen=True)
class Parcel:
    """All of a folder that goes up, the run that made it, and the files that stay here."""

    folder: Path
    run: Run | None
    items: tuple[Item, ...]
    left_out: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)


def plan(store: Store, config: PushConfig) -> Plan:
    """What the upload will do.

    Raises:
        ConfigError: nothing finished there, no token, offline, or a file that the hub does not take.
    """
    problems = [*_unready(), *config.problems()]
    try:
        found = parcel(store, config.model_name_or_path) if config.model_name_or_path else None
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from error
    if problems or found is None:
        raise ConfigError(problems)
    who = "**private**" if config.hub_private_repo else "**public**"
    count = f"{len(found.items)} file{'s' if len(found.items) != 1 else ''}"
    return Plan(
        f"Upload **{count}, {size(found.size_bytes)}** to `{config.hub_model_id}`, {who}.",
        None,
        tuple(_lines(found, config)),
        tuple(_warnings(config)),
    )


def parcel(store: Store, name: str) -> Parcel:
    """What of the folder or run `name` goes up.

    Raises:
        ConfigError: it is neither, nothing in it is finished, or a file is too large.
    """
    run = lineage.maker(store, name)
    folder = _folder(name, run)
    if problem := _unfit(folder, name, run):
        raise ConfigError([Problem("model_name_or_path", problem)])
    assert folder
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    left_out = tuple(each for each in names if any(fnmatch(each.rpartition("/")[2], mark) for mark in STATE))
    items = tuple(_item(folder, each) for each in names if each not in left_out)
    if large := [item for item in items if item.size_bytes > LARGEST_BYTES]:
        most = f"the hub takes {size(LARGEST_BYTES)} a file: merge with a smaller export_size"
        what = f"{large[0].name} has {size(large[0].size_bytes)}, {most}"
        raise ConfigError([Problem("model_name_or_path", what)])
    return Parcel(folder, run, items, left_out)


def token() -> str:
    """The hub's token: from the environment alone, so that no file holds it; empty where there is none."""
    return os.environ.get(TOKEN, "").strip()


def _unready() -> Iterator[Problem]:
    if not token():
        what = "is not set: make a token that may write (huggingface.co/settings/tokens) and start the studio with it"
        yield Problem(TOKEN, what)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield Problem("HF_HUB_OFFLINE", "is set, so nothing is sent to the hub: unset it and start the studio again")


def _folder(name: str, run: Run | None) -> Path | None:
    """A run's id or directory means its result; a folder means itself."""
    folder = Path(name).expanduser()
    if folder.is_dir() and not (run and folder.resolve() == run.path):
        return folder.resolve()
    return run.output if run and run.output and run.output.is_dir() else None


def _unfit(folder: Path | None, name: str, run: Run | None) -> str:
    """Why `folder` cannot go up; empty where it can."""
    if folder is None or not _is_export(folder):
        return f"{name!r} is neither a run with a finished result nor a folder with an adapter, a model or GGUF files"
    if run and set(UNFINISHED) & set(folder.parts[len(run.path.parts) :]):
        return f"{folder} is no finished result: its proof failed, or it is still being written"
    if stray := next((path for path in _files(folder) if _leads_out(path, folder)), None):
        return f"{stray} is a link to {stray.resolve()}: put the file itself there if it shall be uploaded"
    return ""


def _is_export(folder: Path) -> bool:
    marks = ("adapter_config.json", "config.json", "Modelfile")
    return any((folder / name).is_file() for name in marks) or any(folder.glob("*.gguf"))


def _leads_out(path: Path, folder: Path) -> bool:
    """The hub's cache is made of links to its own blobs; any other link may lead to what is nobody's business."""
    target = path.resolve()
    return not (target.is_relative_to(folder) or target.is_relative_to(folder.parent.parent / "blobs"))


def _files(folder: Path) -> Iterator[Path]:
    """No hidden ones: a folder of a person may hold .git, .cache or .env."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _item(folder: Path, name: str) -> Item:
    path = folder / name
    item = Item(name, path, path.stat().st_size)
    if path.suffix != ".json" or item.size_bytes > JSON_MAX_BYTES:
        return item
    content = _without_places(path)
    return item if content is None else Item(name, path, len(content), content)


def _without_places(path: Path) -> bytes | None:
    """A JSON file with the paths of this computer cut down to names; None where there are none."""
    try:
        value = read_json(path)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    clean = {**value, **{key: _public(value[key]) for key in PLACES if key in value}}
    return None if clean == value else (json.dumps(clean, ensure_ascii=False, indent=2) + "\n").encode()


def _public(value: Any) -> Any:
    return lineage.public_name(value) if isinstance(value, str) else value


def _lines(found: Parcel, config: PushConfig) -> Iterator[str]:
    if config.model_card:
        yield "A model card is written from the runs that made it: data, hyperparameters, curves, base, licence, proof."
    if found.left_out:
        yield f"Left here: {', '.join(found.left_out)} (only a training that goes on needs them)."
    if changed := [item.name for item in found.items if item.content is not None]:
        yield f"Paths of this computer are cut down to names in {', '.join(changed)}."
    yield "What the repository already has is not sent again, so an upload that broke off can be started once more."


def _warnings(config: PushConfig) -> Iterator[str]:
    if not config.hub_private_repo:
        yield "Everybody will be able to see and download it, also after you delete it here."
