"""A folder outside the runs that a person names for a result: what may be written there, and what may be replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDERS = ("additional_chat_templates",)  # the only ones that a model folder has
FILES = (  # what a model folder has; an optimizer's state or a letter is somebody's only copy
    *("*.safetensors", "*.safetensors.index.json", "*config.json", "*token*", "vocab*", "merges.txt", "*.model"),
    *("*.jinja", "*.py", "README.md", "LICENSE*", "Modelfile", ".gitattributes"),
)


def objections(target: Path, overwrite: bool, spared: Sequence[Path] = ()) -> Iterator[str]:
    """What is against putting a model at `target`, in sentences that say what to do.

    Only a model folder is ever replaced: a name typed wrongly must not cost a home directory. `spared` are folders
    that the result is made of.
    """
    if needed := next((folder for folder in spared if _overlap(target.resolve(), folder.resolve())), None):
        yield f"{target} is or holds {needed}, which is merged, or lies in it: choose another folder"
        return
    if os.path.lexists(target) and not _is_empty(target):
        if not overwrite:
            yield f"{target} exists: choose another folder, or set overwrite_output_dir: true to replace it"
        elif strange := _strange(target):
            yield f"{target} holds {strange} and is no model folder, so it is not replaced: choose another folder"
    parent = next(each for each in (*target.absolute().parents, target.absolute()) if each.exists())
    if not os.access(parent, os.W_OK):
        yield f"{parent} cannot be written to: choose a folder that is yours"


def _overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not target.is_symlink() and not any(target.iterdir())


def _strange(target: Path) -> str:
    """Something at `target` that does not belong into a model folder; empty where there is nothing such."""
    if target.is_symlink() or not target.is_dir():
        return "a file or a link"
    if not (target / "config.json").is_file():
        return "no config.json"
    return next((path.name for path in sorted(target.iterdir()) if not _is_known(path)), "")


def _is_known(path: Path) -> bool:
    return path.name in FOLDERS if path.is_dir() else any(map(path.match, FILES))
