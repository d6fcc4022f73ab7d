"""What libraries look up in thousands of files each time they are imported, kept from one process to the next.

transformers reads all its models to know their names, and asks which distribution each package is of. Both take longer
than a small training's first step, and far longer from a disk that has not been read before. What is kept counts while
no file that it was read from has changed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from studio.files import read_record, write_json

READER, READING = "transformers.utils.import_utils", "create_import_structure_from_path"
DESCRIBED = (".dist-info", ".egg-info")
NEEDED = "+"  # before the packages that names need, in the place of a set of them: no module begins with it

Found = dict[Any, Any]


def keep() -> None:
    """Have what is imported from here on take what was kept, and keep what it finds."""
    importlib.metadata.packages_distributions = functools.cache(
        functools.partial(_distributions, importlib.metadata.packages_distributions)
    )
    sys.meta_path.insert(0, _Finder())


def folder() -> Path:
    """Where it lies; not in the saves, which may be on a slower disk and belong to many machines."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "seedbed" / "imports"


def kept(name: str, state: object, find: Callable[[], Any]) -> Any:
    """What `find` told when the state was this one. `state` and what is told are JSON; that nothing can be kept is no
    fault."""
    try:
        path = folder() / f"{name}.json"
    except RuntimeError:  # a user without a home
        return find()
    held = read_record(path)
    if held.get("state") == state and "found" in held:
        return held["found"]
    found = find()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"state": state, "found": found})
    return found


def _distributions(scan: Callable[[], Any]) -> Any:
    return kept("distributions", [sys.version, *(about for each in sys.path for about in _installed(each))], scan)


def _installed(place: str) -> list[list[Any]]:
    """The distributions of an entry of sys.path. Whatever changes one makes its folder anew."""
    with suppress(OSError), os.scandir(place or ".") as entries:
        return sorted([each.path, each.stat().st_mtime_ns] for each in entries if each.name.endswith(DESCRIBED))
    return []


class _Finder(MetaPathFinder):
    """Finds the module of transformers that reads its models, as it is found anyway, and has it take what was kept."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != READER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec and (loader := spec.loader):
            loader.exec_module = functools.partial(_execute, loader.exec_module)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    if read := getattr(module, READING, None):
        setattr(module, READING, functools.cache(functools.partial(_structure, read)))


def _structure(read: Callable[[Any], Found], path: Any) -> Found:
    """What `read` tells of a folder of models, or of the file that stands for it; of one in there, as ever."""
    models = Path(path).parent if os.path.isfile(path) else Path(path)
    is_theirs = models.parts[-2:] == ("transformers", "models")
    found: Found = _unpacked(_models(read, str(models))) if is_theirs else read(path)
    return found


@functools.cache
def _models(read: Callable[[Any], Found], models: str) -> Found:
    packed: Found = kept("models", [models, *_files(models)], lambda: _packed(read(models)))
    return packed


def _files(top: str) -> Iterator[list[Any]]:
    with os.scandir(top) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.is_dir():
                yield from _files(entry.path) if entry.name != "__pycache__" else ()
            elif entry.name.endswith(".py"):
                about = entry.stat()
                yield [entry.path.removeprefix(top), about.st_size, about.st_mtime_ns]


def _packed(found: Any) -> Any:
    """As JSON: sets of packages as keys, and sets of names, are other things there."""
    if isinstance(found, set):
        return sorted(found)
    return {NEEDED + ",".join(sorted(k)) if isinstance(k, frozenset) else k: _packed(v) for k, v in found.items()}


def _unpacked(held: Any) -> Any:
    if isinstance(held, list):
        return set(held)
    return {_key(key): _unpacked(value) for key, value in held.items()}


def _key(text: str) -> str | frozenset[str]:
    return frozenset(filter(None, text[1:].split(","))) if text.startswith(NEEDED) else text
