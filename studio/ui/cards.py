"""A run as HTML: its head, its bar, and the card of how it failed. Everything is escaped."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from studio.files import read_since
from studio.runs import remarks
from studio.runs.run import ACTIVE, Run, State
from studio.runs.summary import Summary
from studio.ui import downloads

TOLD_OTHERWISE = frozenset({"train_seconds", "best_step", "best_value"})
FAILURES = frozenset({State.FAILED, State.LOST, State.DAMAGED})
PATH = re.compile(r"^computed by (\w+): (.+)$", re.MULTILINE)  # a line of a training's log, before its first step
LOG_BYTES = 16_000


def head(summary: Summary) -> str:
    """State, name and id."""
    badge = f'<span class="badge {summary.state}">{summary.state}</span>'
    return f'<div class="run-head">{badge}<b>{escape(summary.name)}</b><code>{summary.id}</code></div>'


def bar(summary: Summary) -> str:
    """How far an active run is, what it does, and how long that will take; nothing for an ended one."""
    if summary.state not in ACTIVE:
        return ""
    share = f'<i style="width:{(summary.progress or 0):.1%}"></i>'
    left = f" · about {duration(summary.eta_s)} left" if summary.eta_s is not None else ""
    return f'<div class="bar">{share}</div><p>{escape(summary.message or summary.state)}{left}</p>'


def failure(run: Run, summary: Summary) -> str:
    """Why it failed, or was stopped by nobody here, and what to change; nothing where there is nothing to say."""
    reason, tone = run.reason, "bad" if summary.state in FAILURES else "wait"
    return f'<div class="card {tone}"><p>{escape(reason)}</p></div>' if reason else ""


def paths(run: Run) -> str:
    """Which way each part of a training is computed, as its log says from the start on."""
    begun, _ = read_since(run.log, 0, LOG_BYTES)
    found = dict(PATH.findall(begun.decode(errors="replace")))
    pairs = [f"<span>{part} <b>{escape(way)}</b></span>" for part, way in found.items()]
    return f'<div class="figures-line">Computed by: {"".join(pairs)}</div>' if pairs else ""


def outcome(run: Run) -> str:
    """What came out: the figures of the whole run, those it ended with, and where the output is."""
    result = run.result
    if not result:
        return ""
    whole = {key: value for key, value in result.items() if _is_figure(value) and key not in TOLD_OTHERWISE}
    last = remarks.last_figures(run.metrics)
    validated = {name: value for name, value in last.items() if name.startswith(remarks.VALIDATED)}
    stepped = {name: value for name, value in last.items() if name not in validated}
    # the output may be of an earlier step than these: the best
    lines = (("", whole), ("Last step: ", stepped), ("Last validation: ", validated))
    took = f" in {duration(result['train_seconds'])}" if "train_seconds" in result else ""
    figures = "".join(_figures(*line) for line in lines)
    where = f"<p><code>{escape(str(run.output))}</code>{took}{_download(run)}</p>" if run.output else ""
    told = f"{figures}{_best(result)}{where}"
    return f'<div class="card good">{told}</div>' if told else ""


def duration(seconds: float) -> str:
    """Seconds as 8 s, 3 min 5 s or 2 h 3 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _download(run: Run) -> str:
    return f' · <a href="{downloads.url(run)}" download>Download</a>' if downloads.result_of(run) else ""


def _best(result: dict[str, Any]) -> str:
    if "best_step" not in result:
        return ""
    metric, value = escape(str(result.get("best_metric"))), _figure(result.get("best_value"))
    return (
        f"<p>Best checkpoint: <b>step {result['best_step']}</b>, validation {metric} {value}. The output is of it.</p>"
    )


def _figures(title: str, found: dict[str, float]) -> str:
    """Names and values side by side, as many as fit in a line."""
    pairs = [f"<span>{escape(name)} <b>{_figure(value)}</b></span>" for name, value in found.items()]
    return f'<div class="figures-line">{title}{"".join(pairs)}</div>' if pairs else ""


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else "?"
