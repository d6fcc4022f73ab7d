"""Rewards that a person wrote: functions in Python files below data/rewards. Here they are read, never run."""

from __future__ import annotations

import ast
from pathlib import Path

from studio.errors import PathError, RewardError
from studio.files import inside

FOLDER = "rewards"


def find(name: str, data_dir: Path) -> tuple[Path, str]:
    """The file and the function of a name FILE.py:FUNCTION.

    Raises:
        RewardError: no such file, it is no Python, or it has no such function.
    """
    file, _, function = name.partition(":")
    path = _file(file, data_dir / FOLDER)
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise RewardError(f"{path.name} is not Python: {f'line {line}: ' if line else ''}{error}") from error
    if function not in _names(tree) and "*" not in _names(tree):
        known = ", ".join(node.name for node in tree.body if isinstance(node, ast.FunctionDef)) or "none"
        raise RewardError(f"{path.name} has no function {function!r}; it has {known}")
    return path, function


def _file(name: str, folder: Path) -> Path:
    try:
        path = inside(folder, name)
    except PathError as error:
        raise RewardError(str(error)) from error
    if path.suffix != ".py" or not path.is_file():
        known = ", ".join(sorted(each.name for each in folder.glob("*.py"))) or "none"
        raise RewardError(f"there is no Python file {name} in {folder}; there is {known}")
    return path


def _names(tree: ast.Module) -> set[str]:
    """What a file defines or imports; "*" for it cannot be known."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found
