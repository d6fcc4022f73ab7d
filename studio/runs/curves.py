"""The curves of a run for a chart: all of it once, thinned; then only what is new since a cursor.

Thinning keeps the lowest and the highest point of every bin, so a spike is never dropped. Bins are powers of two
anchored at the first row, so points already drawn stay where they are while the run grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.files import read_since
from studio.runs import events

if TYPE_CHECKING:
    import numpy as np

STEP_SERIES = ("loss", "learning_rate", "grad_norm", "tokens_per_s", "memory_gb")
EVAL_SERIES = "eval_loss"
SMOOTHED = "loss_smoothed"
BUDGET = 1000
SMOOTHING = 0.9

# a series is [steps, values]; None stands for a value that was not finite
Series = dict[str, list[list[Any]]]


def overview(path: Path, budget: int = BUDGET) -> dict[str, Any]:
    """Every series of a metrics.jsonl with at most about `budget` points each.

    Returns:
        {"cursor": bytes read, "series": {name: [steps, values]}, "ema": the smoothed loss to go on from,
        "stride": rows a bin, 1 when nothing was thinned}.
    """
    lines, cursor = read_since(path, 0)
    points = events.parse_points(lines)
    steps = [point for point in points if point.type == "step"]
    columns = _columns(steps)
    columns[SMOOTHED] = _smooth(columns["loss"])
    stride = _stride(len(steps), budget)
    x = [point.step for point in steps]
    series = {name: _thin(x, column, stride) for name, column in columns.items()}
    series |= _metrics(steps, budget) | _validations(points)
    last = series[SMOOTHED][1]
    return {"cursor": cursor, "series": series, "ema": last[-1] if last else None, "stride": stride}


def since(path: Path, cursor: int) -> dict[str, Any]:
    """What was logged after `cursor`, unthinned: {"cursor", "series"}. A few points a second at most."""
    lines, cursor = read_since(path, cursor)
    points = events.parse_points(lines)
    steps = [point for point in points if point.type == "step"]
    series = _raw(steps, STEP_SERIES) | _metrics(steps) | _validations(points)
    return {"cursor": cursor, "series": {name: points for name, points in series.items() if points[0]}}


def thinned(x: Sequence[float], values: Sequence[float | None], budget: int = BUDGET) -> list[list[Any]]:
    """One series with at most about `budget` points, lows and highs kept; None is a gap."""
    return _thin(x, _numpy().array(values, dtype=float), _stride(len(x), budget))


def _metrics(points: Sequence[events.Point], budget: int | None = None) -> Series:
    """A series for each further figure, of the rows that have it; thinned where there is a budget."""
    rows = [point.metrics for point in points if point.metrics]
    if not rows:
        return {}
    numpy, series = _numpy(), {}
    x = numpy.array([point.step for point in points if point.metrics])
    for name in sorted(set().union(*rows)):
        column = numpy.array([row.get(name) for row in rows], dtype=float)  # None -> NaN
        known = ~numpy.isnan(column)
        stride = _stride(known.sum(), budget) if budget else 1
        series[name] = _thin(x[known].tolist(), column[known], stride)
    return series


def _validations(points: Sequence[events.Point]) -> Series:
    """eval_loss and eval_METRIC, and more of their kind for each dataset validated by itself: `eval_loss NAME`."""
    evals = [point for point in points if point.type == "eval"]
    series = _raw([point for point in evals if not point.dataset], (EVAL_SERIES,))
    for dataset in dict.fromkeys(point.dataset for point in evals):
        own = [point for point in evals if point.dataset == dataset]
        suffix = f" {dataset}" if dataset else ""
        series[EVAL_SERIES + suffix] = _raw(own, (EVAL_SERIES,))[EVAL_SERIES]
        series |= {f"eval_{name}{suffix}": column for name, column in _metrics(own).items()}
    return series


def _raw(points: Sequence[events.Point], names: Iterable[str]) -> Series:
    x = [point.step for point in points]
    return {name: [x, [_short(getattr(point, name)) for point in points]] for name in names}


def _columns(steps: Sequence[events.Point]) -> dict[str, np.ndarray[Any, Any]]:
    read = attrgetter(*STEP_SERIES)
    table = _numpy().array([read(step) for step in steps], dtype=float).reshape(-1, len(STEP_SERIES))  # None -> NaN
    return dict(zip(STEP_SERIES, table.T, strict=True))


def _smooth(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Exponential mean with the bias of the start removed; gaps keep the last value."""
    if not len(values):
        return values
    import pandas as pd

    return pd.Series(values).ewm(alpha=1 - SMOOTHING).mean().to_numpy()  # type: ignore[no-any-return]


def _stride(rows: int, budget: int) -> int:
    stride = 1
    while rows / stride > budget / 2:
        stride *= 2
    return stride if rows > budget else 1


def _thin(x: Sequence[float], values: np.ndarray[Any, Any], stride: int) -> list[list[Any]]:
    kept = range(len(x)) if stride == 1 else _extremes(values, stride)
    return [[x[i] for i in kept], [_short(float(values[i])) for i in kept]]


def _extremes(values: np.ndarray[Any, Any], stride: int) -> list[int]:
    """Indices of the lowest and highest value of each bin and of the last row, in order."""
    numpy = _numpy()
    missing = -len(values) % stride
    padded = numpy.append(values, numpy.full(missing, numpy.nan)).reshape(-1, stride)
    gaps = numpy.isnan(padded)
    low = numpy.where(gaps, numpy.inf, padded).argmin(axis=1)
    high = numpy.where(gaps, -numpy.inf, padded).argmax(axis=1)
    first = numpy.arange(len(padded)) * stride
    return sorted({*(first + low).tolist(), *(first + high).tolist(), len(values) - 1})


def _short(value: float | None) -> float | None:
    """Five significant digits: more than a chart shows, a third of the bytes."""
    if value is None or value != value:
        return None
    return float(f"{value:.5g}")


@cache
def _numpy() -> Any:
    import numpy

    return numpy
