"""A run as HTML: its head, its bar, and the card of how it failed. Everything is escaped."""

from __future__ import annotations

from html import escape

from studio.runs.run import ACTIVE, Run, State
from studio.runs.summary import Summary

FAILURES = frozenset({State.FAILED, State.LOST, State.DAMAGED})


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
    """Why it failed and what to change; nothing where it did not."""
    return f'<div class="card bad"><p>{escape(run.reason)}</p></div>' if summary.state in FAILURES else ""


def duration(seconds: float) -> str:
    """Seconds as 8 s, 3 min 5 s or 2 h 3 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
