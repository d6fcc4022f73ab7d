"""Rows of a dataset as HTML: turns as bubbles, two answers side by side, text as text. Everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from studio.datasets.formats import Message
from studio.datasets.preview import Shown

RANKED = ("chosen", "rejected")
BUBBLES = {"chosen": "assistant", "text": "text", "rejected": "rejected"}
VERDICTS = {"good": "completed", "bad": "failed"}


def rows_html(rows: Sequence[Shown], editable: bool = False) -> str:
    """The rows of a page, one under the other; those of a file that is ours can be edited and picked."""
    return f'<div class="data-rows">{"".join(_row(row, editable) for row in rows)}</div>'


def lines_html(text: str, tone: str) -> str:
    """A message of several lines as a card: the first is its heading, the others its list. `tone`: good, wait, bad."""
    first, *others = text.splitlines() or [""]
    items = "".join(f"<li>{escape(line)}</li>" for line in others)
    listed = f"<ul>{items}</ul>" if items else ""
    return f'<div class="card {tone}"><p>{escape(first)}</p>{listed}</div>'


def _row(row: Shown, editable: bool) -> str:
    verdict = f'<span class="badge {VERDICTS[row.label]}">{row.label}</span>' if row.label else ""
    body = _turns(row.turns) if row.turns else _unread(row)
    tools = _tools(row.row) if editable else ""
    heading = f"Row {row.row:,} {verdict}" if row.row else verdict
    return f'<section class="data-row"><h4>{heading}{tools}</h4>{body}</section>'


def _tools(row: int) -> str:
    pick = f'<input type="checkbox" data-pick="{row}" aria-label="Pick row {row}">'
    return f'<span class="row-tools"><button type="button" class="small" data-edit="{row}">Edit</button>{pick}</span>'


def _unread(row: Shown) -> str:
    """What the file holds, and why that cannot be used where there is a reason."""
    raw = f"<pre>{escape(row.raw)}</pre>" if row.raw else ""
    return f'<div class="card bad"><p>{escape(row.error)}</p>{raw}</div>' if row.error else raw


def _turns(turns: Iterable[Message]) -> str:
    turns = list(turns)
    told = "".join(_bubble(turn) for turn in turns if turn.role not in RANKED)
    ranked = "".join(_bubble(turn) for turn in turns if turn.role in RANKED)
    return f'{told}<div class="pair">{ranked}</div>' if ranked else told


def _bubble(turn: Message) -> str:
    calls = "".join(f"<code>{escape(call.name)}({escape(call.arguments)})</code>" for call in turn.tool_calls)
    kind = BUBBLES.get(turn.role, turn.role)
    return f'<div class="turn {escape(kind)}"><b>{escape(turn.role)}</b>{escape(turn.content)}{calls}</div>'
