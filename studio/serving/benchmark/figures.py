"""From single answers to the figures of a measurement, and from repeated measurements to the ones that are told."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from studio.serving.benchmark.demand import Demand
from studio.serving.benchmark.workload import Case


@dataclass(frozen=True)
class Answer:
    """One request as its client saw it, in seconds since the measurement began. `gaps_s` lie between its tokens."""

    asked_s: float
    first_s: float
    ended_s: float
    tokens: int
    gaps_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Measured:
    """One measurement. Latencies in milliseconds; tokens_per_s counts the answers' tokens, of all clients together."""

    variant: str
    clients: int
    prompt_tokens: int
    output_tokens: int
    requests: int
    tokens: int
    seconds: float
    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    gap_p50_ms: float | None
    gap_p95_ms: float | None
    memory_gb: float
    gpu_gb: float | None
    others_cores: float
    kv_used: float | None
    kv_blocks: int | None
    preemptions: int


@dataclass(frozen=True)
class Row:
    """What is told of several measurements of one case: their medians, and between which speeds they lay."""

    measured: Measured
    repeats: int
    slowest: float
    fastest: float

    def to_json(self) -> dict[str, Any]:
        """Flat, for results.json and the page."""
        spread = {"repeats": self.repeats, "slowest": self.slowest, "fastest": self.fastest}
        return {**asdict(self.measured), **spread}


def measured(variant: str, case: Case, answers: Sequence[Answer], demand: Demand) -> Measured:
    """The figures of one measurement, of at least one answer."""
    seconds = max(answer.ended_s for answer in answers) - min(answer.asked_s for answer in answers)
    tokens = sum(answer.tokens for answer in answers)
    firsts = [answer.first_s - answer.asked_s for answer in answers]
    gaps = [gap for answer in answers for gap in answer.gaps_s]
    return Measured(
        variant, **asdict(case), requests=len(answers), tokens=tokens, seconds=round(seconds, 3),
        tokens_per_s=round(tokens / seconds, 2),
        ttft_p50_ms=_ms(percentile(firsts, 0.5)), ttft_p95_ms=_ms(percentile(firsts, 0.95)),
        gap_p50_ms=_ms(percentile(gaps, 0.5)) if gaps else None,
        gap_p95_ms=_ms(percentile(gaps, 0.95)) if gaps else None,
        **asdict(demand),
    )  # fmt: skip


def rows(measurements: Iterable[Measured]) -> list[Row]:
    """One row for each case and variant; what answered the same load is side by side."""
    groups: dict[tuple[str, int, int, int], list[Measured]] = {}
    for each in measurements:
        key = (each.variant, each.clients, each.prompt_tokens, each.output_tokens)
        groups.setdefault(key, []).append(each)
    found = [_row(group) for group in groups.values()]
    return sorted(found, key=lambda row: (row.measured.prompt_tokens, row.measured.output_tokens, row.measured.clients))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, between neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def _row(group: Sequence[Measured]) -> Row:
    speeds = [each.tokens_per_s for each in group]
    values = {name: _middle([getattr(each, name) for each in group]) for name in Measured.__dataclass_fields__}
    return Row(Measured(**values), len(group), min(speeds), max(speeds))


def _middle(values: Sequence[Any]) -> Any:
    """The median of what is known; what is no number is the same in all."""
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return values[0]
    if isinstance(known[0], int):
        return statistics.median_low(known)
    return round(statistics.median(known), 4)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
