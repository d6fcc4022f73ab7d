"""Which file a person means, and how it is read: a registered set, or any file with its columns detected or told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from studio.datasets.checks import detected
from studio.datasets.detect import Proposal
from studio.datasets.entry import FORMATTINGS, Entry
from studio.datasets.registry import Registry
from studio.errors import ConfigError, DatasetNotFound, Problem


def mapping_flags(parser: argparse.ArgumentParser) -> None:
    """How to read the columns, where they are not left to detection."""
    parser.add_argument("--formatting", choices=FORMATTINGS, help="how the rows are laid out; needs --map")
    parser.add_argument(
        "--map", action="append", default=[], metavar="ROLE=COLUMN", help="the column of a role, e.g. prompt=frage"
    )
    parser.add_argument("--tag", action="append", default=[], metavar="TAG=NAME", help="e.g. user_tag=customer")
    parser.add_argument("--ranking", action="store_true", help="rows hold a chosen and a rejected answer")


def proposal(arguments: argparse.Namespace) -> Proposal | None:
    """How the flags say that a file is read; None where they leave it to detection."""
    columns, tags = _pairs("--map", arguments.map), _pairs("--tag", arguments.tag)
    if not (columns or tags or arguments.formatting or arguments.ranking):
        return None
    formatting = arguments.formatting or "alpaca"
    unused: dict[str, str | None] = {"query": None} if formatting == "alpaca" else {}
    return Proposal(formatting, {**unused, **columns}, tags, arguments.ranking, 1.0, "as told")


def subject(registry: Registry, arguments: argparse.Namespace) -> tuple[Path, Entry]:
    """The file and the entry of what a person names: a dataset of the list, or else a file.

    Raises:
        DatasetError: neither, or nobody can tell what the columns mean.
    """
    name, told = arguments.name, proposal(arguments)
    if name in registry.names() and told is None:
        return registry.file(name), registry.entry(name)
    path = registry.file(name) if name in registry.names() else Path(name).expanduser()
    if not path.exists():
        raise DatasetNotFound(f"{name} is neither a dataset of the list (python -m studio data) nor a file")
    return path, (told or detected(path)).entry(path.stem, path.name)


def _pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    wrong = [word for word in words if not all(word.partition("="))]
    if wrong:
        raise ConfigError([Problem(flag, f"{word!r}: write it as NAME=VALUE") for word in wrong])
    return {key: value for key, _, value in (word.partition("=") for word in words)}
