"""Files that a training's YAML names. They are read in, so that a run depends on nothing but its own folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from studio.errors import ConfigError, Problem
from studio.parallel import accelerate
from studio.parallel.foreign import Reading

Values = dict[str, Any]
KEYS = ("deepspeed", "fsdp_config", "accelerate_config", "hostfile")
PRECISIONS = ("bf16", "fp16", "pure_bf16")
LARGEST_BYTES = 1 << 20


def anchored(values: Values, folder: Path) -> Values:
    """`values` of a YAML in `folder`, with files that lie there, or in a folder above it, by their whole paths."""
    return {key: _found(value, folder) if key in KEYS else value for key, value in values.items()}


def read_in(values: Mapping[str, Any], read_yaml: Callable[[Path], Values]) -> Reading:
    """`values` with the content of files in the place of their paths; files that are not there stay as they are."""
    found = Reading(dict(values))
    given = found.options.pop("accelerate_config", None)
    if given:
        _add_accelerate(found, given, read_yaml)
    for key in ("deepspeed", "fsdp_config"):
        if path := _file(found.options.get(key)):
            _replace(found, key, path)
    return found


def _add_accelerate(found: Reading, given: Any, read_yaml: Callable[[Path], Values]) -> None:
    """What a person's `accelerate config` says, below what the training itself says."""
    try:
        section = given if isinstance(given, Mapping) else read_yaml(Path(str(given)))
    except ConfigError as error:
        found.problems += [Problem("accelerate_config", str(problem)) for problem in error.problems]
        return
    said = accelerate.reading(section)
    found.notes += said.notes
    found.problems += said.problems
    if any(found.options.get(key) is not None for key in PRECISIONS):
        said.options = {key: value for key, value in said.options.items() if key not in PRECISIONS}
    found.options = {**said.options, **found.options}


def _replace(found: Reading, key: str, path: Path) -> None:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            found.problems.append(Problem(key, f"{path} is too large for settings"))
            return
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found.problems.append(Problem(key, f"{path} is not a JSON file that can be read ({error})"))
        return
    found.options[key] = content if key == "fsdp_config" else json.dumps(content, indent=2)


def _found(value: Any, folder: Path) -> Any:
    """A relative path that leads to a file from `folder`, or from a folder above it, as a whole path."""
    if not _is_path(value) or Path(value).is_absolute():
        return value
    home = folder.absolute()
    places = [place / value for place in (home, *home.parents)]
    return next((str(place) for place in places if _file(str(place))), value)


def _file(value: Any) -> Path | None:
    try:
        return Path(value) if _is_path(value) and Path(value).is_file() else None
    except (OSError, ValueError):  # too long for a name, or no name at all
        return None


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not value.lstrip().startswith("{")
