"""Which conversation is on the page, and in how many panes: opened from the shelf, begun anew, widened, narrowed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from studio.conversations.conversation import Conversation, new, new_id
from studio.runs import outputs
from studio.ui.context import Context
from studio.ui.tabs.chat import setup, talk
from studio.ui.tabs.chat.pickers import ADD, pair
from studio.ui.tabs.chat.setup import PANES, Setup, fitted
from studio.ui.tabs.chat.talk import Page


@talk.complaining
def on_show(ctx: Context, chat_id: str, count: int, *picks: str | None) -> Page:
    """Open a conversation; without one, begin anew with who is picked, or with whom one would want to compare now."""
    if chat_id:
        return talk.page(talk.shelf(ctx).load(chat_id), is_other=True)
    first = talk.page(_begun(ctx, picks[:count]), is_other=True)
    return [*first[: -setup.SET], *_only_picks(first[-setup.SET :])]


@talk.complaining
def on_new() -> Page:
    """Nothing was asked yet; who answers, and how, stays as it is set."""
    return talk.page(replace(new(()), id=""))


def on_add(ctx: Context, count: int, *picks: str | None) -> list[Any]:
    """One pane more, with the one that was tuned last among those that no other pane has. Count, columns, picks."""
    made = [str(output.path) for output in outputs.adapters(ctx.store)]
    other = next((path for path in made if path not in picks[:count]), picks[0])
    return [count + 1, *setup.columns(count + 1), *(other if at == count else gr.skip() for at in range(PANES))]


@talk.complaining
def on_remove(ctx: Context, index: int, chat_id: str, *given: Any) -> Page:
    """One pane less. What was said there stays in the conversation as it was; the others go on in a branch of it."""
    wanted = Setup.of(*given[PANES:])
    if talk.is_busy(given[:PANES]) or len(wanted.panes) == 1:
        return talk.unchanged()
    before = talk.shelf(ctx).load(chat_id) if chat_id else None
    known = fitted(before, wanted)
    rest = replace(known, panes=(*known.panes[:index], *known.panes[index + 1 :]))
    if before is None:
        return talk.page(replace(rest, id=""), is_other=True)
    branch = replace(rest, id=new_id(), parent=before.id, created=time.time())
    return talk.page(talk.shelf(ctx).create(branch), is_other=True)


def _begun(ctx: Context, picks: Sequence[str | None]) -> Conversation:
    """An empty one of those who are picked; where nobody is, as the last one was, or a base and its newest adapter."""
    last = next(iter(talk.shelf(ctx).list()), None)
    if not any(picks) and last and last.picks and ADD not in last.picks and last.updated > _last_tuned(ctx):
        return replace(new(last.picks), id="")
    left, right = pair(ctx, picks[0], picks[1] if len(picks) > 1 else None, left_is_free=False)
    others = [pick or right for pick in picks[2:]]
    return replace(new([left, right, *others][: len(picks)]), id="")


def _last_tuned(ctx: Context) -> float:
    """When the newest adapter's run was begun, in unix seconds."""
    newest = next(iter(outputs.adapters(ctx.store)), None)
    return newest.run.created.timestamp() if newest else 0.0


def _only_picks(values: list[Any]) -> list[Any]:
    """The setup without what a person may have set already: the count, the columns, and who answers."""
    picks = {len(values) - setup.OWN * (PANES - at) for at in range(PANES)}
    head = 1 + PANES
    return [value if at < head or at in picks else gr.skip() for at, value in enumerate(values)]
