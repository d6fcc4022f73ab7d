"""The machines of one training: who they are, and what is typed on each of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from studio.errors import ConfigError, Problem

LINE = re.compile(r"(?P<name>[^\s=]+)(\s+slots=(?P<slots>[1-9]\d*))?")


@dataclass(frozen=True)
class Host:
    """One machine. `name` is empty and `slots`, the number of its processes, None where nobody has said it."""

    name: str = ""
    slots: int | None = None


@dataclass(frozen=True)
class Command:
    """What a person types on machine number `node`; `host` is empty where its name is not known."""

    node: int
    host: str
    text: str


def read_hostfile(path: Path) -> tuple[Host, ...]:
    """The machines of a hostfile as DeepSpeed and MPI have it, `host slots=8` a line, the main one first.

    Raises:
        ConfigError: it cannot be read or names nobody, or lines are at fault; all of them are told.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem("hostfile", f"{path} cannot be read: {error}")]) from error
    lines = {number: line.partition("#")[0].strip() for number, line in enumerate(text.splitlines(), 1)}
    lines = {number: line for number, line in lines.items() if line}
    if problems := [*_problems(path, lines)] or (
        [] if lines else [f"{path} names no host: write `host slots=8` lines"]
    ):
        raise ConfigError([Problem("hostfile", what) for what in problems])
    return tuple(_host(line) for line in lines.values())


def _problems(path: Path, lines: dict[int, str]) -> list[str]:
    wrong = [
        f"line {number} of {path} is {line!r}: write `host slots=8`, slots being its processes"
        for number, line in lines.items()
        if not LINE.fullmatch(line)
    ]
    first: dict[str, int] = {}
    for number, line in lines.items():
        name = line.split()[0]
        if first.setdefault(name, number) != number:
            wrong.append(f"line {number} of {path} names {name} again, after line {first[name]}: each host once")
    return wrong


def _host(line: str) -> Host:
    name, *slots = re.split(r"\s+slots=", line)
    return Host(name, int(slots[0]) if slots else None)


def command(python: Path, root: Path, run_dir: Path, node: int, host: str = "") -> Command:
    """The line that joins machine `node` to a run; `python` and `root`, the studio's folder, are the same there."""
    program = python.relative_to(root) if python.is_relative_to(root) else python
    words = [str(program), "-m", "studio", "train", str(run_dir), "--node-rank", str(node)]
    return Command(node, host, f"cd {shlex.quote(str(root))} && {shlex.join(words)}")
