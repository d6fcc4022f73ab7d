"""What a training said beside its curves: its notes, its answers to the sample prompts, and the figures it ended with.

A long run has a hundred thousand steps and a few of these, so lines are looked through before they are parsed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.files import read_since, tail
from studio.runs import events

MARKS = (b'"sample"', b'"note"')  # in lines of others too, for which the type is looked at
LAST_BYTES = 64_000
VALIDATED = "eval_"


def since(path: Path, cursor: int) -> dict[str, Any]:
    """What was said after byte `cursor` of a metrics.jsonl.

    Returns:
        {"cursor": bytes read, "samples": [{"step", "prompt", "answer"}], "notes": [{"level", "text"}]}, in order.
    """
    lines, cursor = read_since(path, cursor)
    marked = b"".join(line + b"\n" for line in lines.splitlines() if any(mark in line for mark in MARKS))
    found = events.parse(marked)
    return {
        "cursor": cursor,
        "samples": [_kept(each, "step", "prompt", "answer") for each in found if each.get("type") == "sample"],
        "notes": [_kept(each, "level", "text") for each in found if each.get("type") == "note"],
    }


def last_figures(path: Path) -> dict[str, float]:
    """The further figures of the last step, then those of the last validation as eval_NAME, its loss first. Sets that
    were validated by themselves have theirs as "eval_NAME SET"."""
    found = events.parse(tail(path, LAST_BYTES).encode())
    step: dict[str, Any] = next((each for each in reversed(found) if each.get("type") == "step"), {})
    validated = [each for each in found if each.get("type") == "eval"]
    figures: dict[str, float] = dict(step.get("metrics", {}))
    for last in (each for each in validated if each.get("step") == validated[-1].get("step")):
        figures |= _validation(last)
    return figures


def _validation(event: dict[str, Any]) -> dict[str, float]:
    of = f" {event['dataset']}" if event.get("dataset") else ""
    loss = {} if event.get("eval_loss") is None else {"loss": event["eval_loss"]}
    return {f"{VALIDATED}{name}{of}": value for name, value in (loss | event.get("metrics", {})).items()}


def _kept(event: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: event.get(key) for key in keys}
