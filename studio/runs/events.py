"""What a training says while it runs: one JSON line an event in metrics.jsonl, tagged by `type`.

Readers skip types they do not know, so that an older studio reads a newer run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from studio.files import append_line, read_since, write_text


@dataclass(frozen=True)
class Step:
    """One optimizer step. `tokens` counts since the first run of a resumed chain; `at` is in unix seconds."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_per_s: float
    epoch: float
    memory_gb: float
    at: float
    type: Literal["step"] = "step"


@dataclass(frozen=True)
class Eval:
    """One validation."""

    step: int
    eval_loss: float
    at: float
    type: Literal["eval"] = "eval"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is complete; `path` is relative to the run directory."""

    step: int
    path: str
    at: float
    type: Literal["checkpoint"] = "checkpoint"


@dataclass(frozen=True)
class Note:
    """Something worth telling: rows dropped, a checkpoint that could not be written."""

    level: Literal["info", "warning"]
    text: str
    at: float
    type: Literal["note"] = field(default="note")


Event = Step | Eval | Checkpoint | Note


def append(path: Path, event: Event) -> None:
    """Add one event to metrics.jsonl."""
    append_line(path, asdict(event))


def read(path: Path, cursor: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Events after byte `cursor` as plain dictionaries, and the cursor for the next call. Damaged lines are skipped."""
    lines, cursor = read_since(path, cursor)
    return list(parse(lines)), cursor


def parse(lines: bytes) -> Iterator[dict[str, Any]]:
    """Whole JSON lines as dictionaries."""
    if not lines:
        return iter(())
    try:
        # one call for the whole block is several times faster than one a line
        return iter(orjson.loads(b"[" + b",".join(lines.rstrip(b"\n").split(b"\n")) + b"]"))
    except orjson.JSONDecodeError:
        return _one_by_one(lines.splitlines())


def _one_by_one(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            continue


def write(path: Path, events: Iterable[dict[str, Any]]) -> None:
    """A whole metrics.jsonl at once: the history that a resumed run begins with."""
    write_text(path, "".join(orjson.dumps(event).decode() + "\n" for event in events))
