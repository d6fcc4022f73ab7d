"""What a model server had to do over time, for a chart: the rates between neighbouring rows of its metrics.jsonl.

A cursor is the place of the last row that was read, where the next rate begins, and that row's time: by it a file that
was written anew is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from studio.files import read_since
from studio.runs import curves, events

Row = dict[str, Any]
# a series is [unix seconds, values]; None stands for a stretch that says nothing: no request, no first token
Series = dict[str, list[list[Any]]]


def overview(path: Path) -> dict[str, Any]:
    """Every series of a server's metrics.jsonl, thinned.

    Returns:
        {"cursor": for `since`, "anew": True, "series": {name: [unix seconds, values]}, "last": the last row, None where
        there is none}.
    """
    lines, end = read_since(path, 0)
    told = _told(_rows(lines), lines, end)
    thinned = {name: curves.thinned(*points) for name, points in told["series"].items()}
    return told | {"series": thinned, "anew": True}


def since(path: Path, cursor: Sequence[float]) -> dict[str, Any]:
    """What came after the row at `cursor`, unthinned: as `overview`, with "anew" False; no series and no last row where
    nothing came. All of it, where the file was written anew meanwhile."""
    place, at = cursor
    lines, end = read_since(path, int(place))
    rows = _rows(lines)
    if not rows or rows[0]["at"] != at:
        return overview(path)
    return _told(rows, lines, end) | ({"last": None} if len(rows) == 1 else {}) | {"anew": False}


def _rows(lines: bytes) -> list[Row]:
    return [row for row in events.parse(lines) if row.get("type") == "load"]


def _told(rows: Sequence[Row], lines: bytes, end: int) -> dict[str, Any]:
    last = rows[-1] if rows else None
    cursor = [end - len(lines.splitlines(keepends=True)[-1]), last["at"]] if last else None
    return {"cursor": cursor, "series": _series(rows) if len(rows) > 1 else {}, "last": last}


def _series(rows: Sequence[Row]) -> Series:
    pairs = list(pairwise(rows))
    x = [newer["at"] for _, newer in pairs]
    made = {name: [x, [figure(*pair) for pair in pairs]] for name, figure in FIGURES.items()}
    return {name: series for name, series in made.items() if any(value is not None for value in series[1])}


def _per_second(key: str) -> Callable[[Row, Row], float | None]:
    def rate(older: Row, newer: Row) -> float | None:
        return _ratio(newer[key] - older[key], newer["at"] - older["at"])

    return rate


def _ttft(older: Row, newer: Row) -> float | None:
    """The mean of those requests whose first token came in between."""
    return _ratio(newer["ttft_sum_s"] - older["ttft_sum_s"], newer["ttft_count"] - older["ttft_count"])


def _hits(older: Row, newer: Row) -> float | None:
    """The share of the prompts' tokens that the cache had."""
    if newer["prefix_queries"] is None:
        return None
    return _ratio(newer["prefix_hits"] - older["prefix_hits"], newer["prefix_queries"] - older["prefix_queries"])


def _blocks(_: Row, newer: Row) -> float | None:
    """Blocks of the KV cache in use. vLLM keeps one for itself and counts the share of the others."""
    if newer["kv_used"] is None or newer["kv_blocks"] is None:
        return None
    return float(round(newer["kv_used"] * (newer["kv_blocks"] - 1)))


def _ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to divide by, and where a counter began anew."""
    return part / whole if whole > 0 and part >= 0 else None


FIGURES: dict[str, Callable[[Row, Row], float | None]] = {
    "generated_per_s": _per_second("generation_tokens"),
    "read_per_s": _per_second("prompt_tokens"),
    "ttft_s": _ttft,
    "running": lambda _, newer: float(newer["running"]),
    "waiting": lambda _, newer: float(newer["waiting"]),
    "blocks": _blocks,
    "hit_share": _hits,
}
