"""What a training or a model server says while it runs: one JSON line an event in metrics.jsonl, tagged by `type`.

Readers skip types they do not know, so that an older studio reads a newer run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from studio.files import append_line, read_since, write_text


@dataclass(frozen=True)
class Step:
    """One optimizer step. `tokens` counts since the first run of a resumed chain; `at` is in unix seconds.

    `metrics` are the further figures of the stage by the trainer's names, those that are finite.
    """

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_per_s: float
    epoch: float
    memory_gb: float
    at: float
    metrics: dict[str, float] = field(default_factory=dict)
    type: Literal["step"] = "step"


@dataclass(frozen=True)
class Eval:
    """One validation; `dataset` names what was validated on where several sets are each validated by itself.

    `metrics` are its further figures, named as those of a step: token_accuracy, rewards/margins; also perplexity.
    """

    step: int
    eval_loss: float
    at: float
    dataset: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    type: Literal["eval"] = "eval"


@dataclass(frozen=True)
class Sample:
    """What the model answers to a prompt after `step` steps."""

    step: int
    prompt: str
    answer: str
    at: float
    type: Literal["sample"] = "sample"


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


@dataclass(frozen=True)
class Load:
    """What a model server had to do at one moment. The counters are since its start; tokens are counted by prompt.

    kv_used: share of the cache, 0..1, of `kv_blocks` blocks of `block_tokens` tokens. None is what a server does not
    tell: one without a paged cache has no blocks.
    """

    running: int
    waiting: int
    kv_used: float | None
    kv_blocks: int | None
    block_tokens: int | None
    prompt_tokens: int
    generation_tokens: int
    prefix_queries: int | None
    prefix_hits: int | None
    ttft_sum_s: float
    ttft_count: int
    preemptions: int | None
    at: float
    type: Literal["load"] = "load"


Event = Step | Eval | Sample | Checkpoint | Note | Load


class Point(msgspec.Struct, gc=False):
    """What a chart needs of a step or eval event; null stands for a value that was not finite."""

    type: str = ""
    step: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_s: float | None = None
    memory_gb: float | None = None
    eval_loss: float | None = None
    dataset: str = ""
    metrics: dict[str, float] | None = None


T = TypeVar("T")
_any: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_points = msgspec.json.Decoder(Point)


def append(path: Path, event: Event) -> None:
    """Add one event to metrics.jsonl."""
    append_line(path, asdict(event))


def read(path: Path, cursor: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Events after byte `cursor` as plain dictionaries, and the cursor for the next call. Damaged lines are skipped."""
    lines, cursor = read_since(path, cursor)
    return parse(lines), cursor


def parse(lines: bytes) -> list[dict[str, Any]]:
    """Whole JSON lines as dictionaries."""
    return _decode(_any, lines)


def parse_points(lines: bytes) -> list[Point]:
    """Whole JSON lines as points: three times faster than dictionaries, which a long run's first drawing needs."""
    return _decode(_points, lines)


def write(path: Path, events: Iterable[dict[str, Any]]) -> None:
    """A whole metrics.jsonl at once: the history that a resumed run begins with."""
    write_text(path, "".join(msgspec.json.encode(event).decode() + "\n" for event in events))


def until(events: Iterable[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Those that are of `step` or before, or of none."""
    return [event for event in events if isinstance(at := event.get("step", 0), int) and at <= step]


def _decode(decoder: msgspec.json.Decoder[T], lines: bytes) -> list[T]:
    try:
        return decoder.decode_lines(lines)
    except msgspec.DecodeError:
        return [row for line in lines.splitlines() for row in _decode_one(decoder, line)]


def _decode_one(decoder: msgspec.json.Decoder[T], line: bytes) -> list[T]:
    """A line that a power cut tore is left out; those around it are good."""
    try:
        return [decoder.decode(line)]
    except msgspec.DecodeError:
        return []
