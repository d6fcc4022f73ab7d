"""Fail on functions longer than one screen; print how long they are as a rule.

    python tools/sizes.py

Counted are lines from `def` to the end, without the docstring: what a reader holds in mind at once.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 40


def main() -> None:
    """Print median and 90th percentile; name each function over the limit and fail if there is one."""
    found = [function for path in sources(ROOT) for function in functions(path)]
    lengths = sorted(length for _, _, length in found)
    p90 = lengths[len(lengths) * 9 // 10]
    print(f"{len(lengths)} functions: median {statistics.median(lengths):.0f} lines, p90 {p90}, longest {lengths[-1]}")
    if long := [f"{place}: {name} has {length} lines" for place, name, length in found if length > LIMIT]:
        raise SystemExit("\n".join([*long, f"Longer than {LIMIT} lines: split by what the parts do"]))


def sources(root: Path) -> Iterator[Path]:
    """The program's own files: studio/ and app.py."""
    yield root / "app.py"
    yield from sorted((root / "studio").rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, str, int]]:
    """(file:line, name, lines) of each function in a file, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path}:{node.lineno}", node.name, _lines(node)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    whole = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is None:
        return whole
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)


if __name__ == "__main__":
    main()
