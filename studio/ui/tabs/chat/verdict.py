"""What is said about two answers once both are there: which is better, and where their words differ."""

from __future__ import annotations

import time
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from studio.arena.votes import Ledger, Outcome, Side, Vote
from studio.conversations import turns
from studio.conversations.conversation import Conversation, Pane, Turn
from studio.errors import ConversationError, VoteError
from studio.ui.context import Context
from studio.ui.tabs.chat import shown, talk
from studio.ui.tabs.chat.pickers import called
from studio.ui.tabs.chat.setup import LETTERS, PANES
from studio.ui.turns import lines_html

QUESTION = "Which answer is better?"
SAYS = {"left": "{0} is better", "right": "{1} is better", "tie": "a tie", "both_bad": "both are bad"}


def ledger(ctx: Context) -> Ledger:
    """Where the votes of this page are kept."""
    return Ledger(ctx.settings.saves_dir / "votes.jsonl")


def on_rest(ctx: Context, chat_id: str, left: str, right: str, with_differences: bool, *lines: str) -> list[Any]:
    """Some pane has begun or ended an answer. Send, Stop, the row of votes, what it says, Undo, the differences."""
    busy = talk.is_busy(lines)
    conversation = _found(ctx, chat_id)
    vote = None if busy or conversation is None else _vote(ctx, conversation, left, right, "tie")
    return [*talk.pressable(busy), *_row(ctx, vote, left, right), _differ(conversation, left, right, with_differences)]


def on_vote(ctx: Context, outcome: Outcome, chat_id: str, left: str, right: str) -> list[Any]:
    """Keep what a person thinks of the last two answers; another vote on the same two takes its place."""
    conversation = _found(ctx, chat_id)
    vote = _vote(ctx, conversation, left, right, outcome) if conversation else None
    try:
        if vote:
            ledger(ctx).append(vote)
    except VoteError as error:
        return _unwritten(error)
    return _row(ctx, vote, left, right)


def on_unvote(ctx: Context, chat_id: str, left: str, right: str) -> list[Any]:
    """Take the vote on the last two answers back."""
    conversation = _found(ctx, chat_id)
    vote = _vote(ctx, conversation, left, right, "tie") if conversation else None
    try:
        if vote:
            ledger(ctx).withdraw(vote.id)
    except VoteError as error:
        return _unwritten(error)
    return _row(ctx, vote, left, right)


def _row(ctx: Context, vote: Vote | None, left: str, right: str) -> list[Any]:
    """The row, its text, both panes' buttons, Undo; the row is there where there is something to vote on."""
    if vote is None:
        return [gr.update(visible=False), *[gr.skip()] * 4]
    kept = ledger(ctx).read()
    known = next((each for each in kept if each.id == vote.id), None)
    text = f"You said: {SAYS[known.outcome].format(left, right)}." if known else QUESTION
    more = (
        f" {len(kept)} vote{'s' if len(kept) > 1 else ''} so far: the Arena page makes data of them." if known else ""
    )
    about = f'<div class="remark"><b>{escape(text)}</b><span>{more}</span></div>'
    better = [gr.update(value=SAYS[side].format(left, right)) for side in ("left", "right")]
    return [gr.update(visible=True), about, *better, gr.update(visible=known is not None)]


def _unwritten(error: VoteError) -> list[Any]:
    return [gr.skip(), lines_html(str(error), "bad"), *[gr.skip()] * 3]


def _vote(ctx: Context, conversation: Conversation, left: str, right: str, outcome: Outcome) -> Vote | None:
    """A vote on the last answers of two panes; None unless both have answered the same prompt."""
    panes = _of(conversation, left), _of(conversation, right)
    answers = [shown.last_answer(pane.turns) for pane in panes]
    if left == right or not all(map(_is_answer, answers)) or _prompt(panes[0]) != _prompt(panes[1]):
        return None
    times = "-".join(f"{answer.at:.3f}" for answer in answers if answer)
    return Vote(
        id=f"{conversation.id}-{left}{right}-{times}",
        source="compare",
        messages=turns.messages(replace(panes[0], turns=panes[0].turns[:-1])),
        left=_side(ctx, panes[0]),
        right=_side(ctx, panes[1]),
        outcome=outcome,
        blind=False,
        at=time.time(),
        system=conversation.system,
        tools=conversation.tools,
    )


def _side(ctx: Context, pane: Pane) -> Side:
    return Side(called(ctx, pane.pick), pane.pick, shown.last_words(pane))


def _differ(conversation: Conversation | None, left: str, right: str, is_on: bool) -> Any:
    if not is_on:
        return gr.update(visible=False)
    if conversation is None:
        return gr.update(visible=True, value=shown.differences(talk.EMPTY, talk.EMPTY, (left, right)))
    panes = _of(conversation, left), _of(conversation, right)
    return gr.update(visible=True, value=shown.differences(panes[0], panes[1], (left, right)))


def _of(conversation: Conversation, letter: str) -> Pane:
    at = LETTERS[:PANES].find(letter or "?")
    return conversation.panes[at] if 0 <= at < len(conversation.panes) else talk.EMPTY


def _is_answer(turn: Turn | None) -> bool:
    return turn is not None and bool(turn.content) and not turn.note


def _prompt(pane: Pane) -> str:
    return next((turn.content for turn in reversed(pane.turns) if turn.role == "user"), "")


def _found(ctx: Context, chat_id: str) -> Conversation | None:
    try:
        return talk.shelf(ctx).load(chat_id) if chat_id else None
    except ConversationError:
        return None
