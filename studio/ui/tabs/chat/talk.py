"""What a person does to a conversation: each handler reads it from disk, changes it, writes it, and shows it.

What the page shows is a list of values in the order of `page`, with one `look` a pane. Who is to answer then stands in
`asking`, by number of pane; `answer.on_answer` does it. `given` are the lines of figures, then what `Setup.of` takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import wraps
from html import escape
from typing import Any, ParamSpec

import gradio as gr

from studio.conversations import turns
from studio.conversations.conversation import Conversation, Pane
from studio.conversations.shelf import Shelf
from studio.errors import ConversationError, SeedbedError
from studio.ui.context import Context
from studio.ui.tabs.chat import setup, shown
from studio.ui.tabs.chat.pickers import ADD, remark
from studio.ui.tabs.chat.setup import LETTERS, PANES, SET, Setup, fitted
from studio.ui.turns import lines_html

P = ParamSpec("P")
Page = list[Any]
Offer = dict[str, Any]  # the label of a button; "run" and "options" where a server must be started again with those

LAST = -1  # no turn was chosen: what is done concerns the last one
LOOK = 9  # values of a `look`
ASKING, COMPLAINT = 2, 3  # places in a page
KEPT_S, LOOK_S = 1.0, 0.05  # how long an answer that was cut off may take to its disk, how often that is looked at
HEAD = 6  # values of a page before the looks
EMPTY = Pane("")


def shelf(ctx: Context) -> Shelf:
    """Where conversations are kept."""
    return Shelf(ctx.settings.saves_dir / "conversations")


def unchanged() -> Page:
    """A page that stays as it is, with nobody to answer."""
    return [gr.skip(), gr.skip(), {}, *[gr.skip()] * (HEAD - 3 + LOOK * PANES + SET)]


def complaining(handler: Callable[P, Page]) -> Callable[P, Page]:
    """Tell an error that was made for people above the prompt; the page stays as it is."""

    @wraps(handler)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Page:
        try:
            return handler(*args, **kwargs)
        except SeedbedError as error:
            page = unchanged()
            page[COMPLAINT] = lines_html(str(error), "bad")
            return page

    return guarded


@complaining
def on_send(ctx: Context, chat_id: str, prompt: str, *given: Any) -> Page:
    """Put a prompt to every pane. Nothing happens while somebody still answers."""
    if not prompt.strip() or is_busy(given[:PANES]):
        return unchanged()
    which = range(given[PANES])
    saved = _saved(ctx, chat_id, given, which, lambda pane, _: turns.asked(pane, prompt))
    return page(saved, which, prompt="")


@complaining
def on_again(ctx: Context, which: Collection[int], chat_id: str, *given: Any) -> Page:
    """Have panes answer their last prompt once more; one that was asked nothing gets what its neighbour was asked."""
    if is_busy(given[at] for at in which):
        return unchanged()
    saved = _saved(ctx, chat_id, given, which, lambda pane, it: _again(it, pane))
    return page(saved, which)


@complaining
def on_offer(ctx: Context, index: int, offer: Offer, chat_id: str, *given: Any) -> Page:
    """Have a pane answer again, its server started again first where that is what the button offers."""
    shown_now = on_again(ctx, [index], chat_id, *given)
    if shown_now[ASKING]:
        shown_now[ASKING] = {index: offer}
    return shown_now


@complaining
def on_edit(ctx: Context, index: int, message: int, text: str, chat_id: str, *given: Any) -> Page:
    """Put another text in the place of a prompt and have it answered. What stood there stays as another version."""
    if is_busy([given[index]]):
        return unchanged()

    def edited(pane: Pane, _: Conversation) -> Pane:
        if not pane.turns:
            raise ConversationError("This pane was emptied in another page meanwhile: open the conversation again")
        return turns.edited(pane, shown.turn_of(pane, message), text)

    return page(_saved(ctx, chat_id, given, [index], edited), [index])


@complaining
def on_version(ctx: Context, index: int, step: int, chat_id: str, turn: int) -> Page:
    """Show the version before (-1) or after (1) the one that is shown."""

    def leafed(pane: Pane) -> Pane:
        at = versioned(pane, turn)
        now, count = turns.versions(pane, at)
        return turns.switched(pane, at, (now + step) % count)

    return page(shelf(ctx).change(chat_id, lambda it: _each(it, [index], leafed)))


@complaining
def on_branch(ctx: Context, index: int, chat_id: str, turn: int) -> Page:
    """Go on in a conversation of its own from the chosen turn, or from the last; this one stays on the shelf."""
    if not _pane(ctx, chat_id, index).turns:
        return unchanged()
    before = shelf(ctx).load(chat_id)
    at = len(before.panes[index].turns) - 1 if turn == LAST else turn
    return page(shelf(ctx).create(turns.branched(before, index, at)), is_other=True)


def on_stop(*lines: str) -> list[Any]:
    """Answers are cut off; what has come stays. Their lines of figures, their Stops."""
    return [*map(shown.halted, lines), *[gr.update(interactive=False) for _ in lines]]


async def on_cut(ctx: Context, index: int, chat_id: str, line: str) -> list[Any]:
    """What is said of the turn of an answer that was cut off, and the row of its versions, once it is on disk."""
    if not chat_id or not line:
        return [gr.skip(), gr.skip()]
    deadline = time.monotonic() + KEPT_S
    while not shown.last_answer((pane := await asyncio.to_thread(_pane, ctx, chat_id, index)).turns):
        if time.monotonic() > deadline:  # not one word had come
            break
        await asyncio.sleep(LOOK_S)
    return [about(pane, LAST), gr.update(visible=versioned(pane, LAST) != LAST)]


def on_chosen(ctx: Context, index: int, message: int, chat_id: str) -> tuple[int, str]:
    """A message was clicked: its turn is what versions and branches are about. The turn, and the line that says so."""
    pane = _pane(ctx, chat_id, index)
    turn = shown.turn_of(pane, message)
    return turn, about(pane, turn)


def on_pick(ctx: Context, index: int, pick: str | None, chat_id: str) -> list[Any]:
    """Another one is to answer in a pane: it begins anew, and shows what was said where the old one comes back.

    A `look`, then what is said of the pick.
    """
    pane = _pane(ctx, chat_id, index)
    return [*look(pane if pane.pick == pick else EMPTY), remark(ctx, pick) if pick else ""]


def page(conversation: Conversation, asking: Collection[int] = (), prompt: Any = None, is_other: bool = False) -> Page:
    """All that the page shows of a conversation: prompt, id, asking, complaint, Send, Stop, looks, setup.

    The setup stays as it is, unless this is another conversation than the one that the page was set to.
    """
    panes = conversation.panes
    due: dict[int, Offer] = {at: {} for at in asking if at < len(panes) and _is_due(panes[at])}
    looks = [look(panes[at] if at < len(panes) else EMPTY, at in due) for at in range(PANES)]
    said = gr.skip() if prompt is None else prompt
    head = [said, conversation.id, due, "", *pressable(bool(due))]
    tail = setup.values(conversation) if is_other else [gr.skip()] * SET
    return [*head, *(value for each in looks for value in each), *tail]


def look(pane: Pane, asking: bool = False, says: str = "", offer: Any = None) -> list[Any]:
    """Chat, figures, tokens, what is said about the turn, versions, turn, offer, its button, Stop."""
    last = shown.last_answer(pane.turns)
    return [
        shown.messages(pane),
        shown.waiting({}) if asking else shown.of_last(pane),
        shown.tokens(last),
        about(pane, LAST, says),
        gr.update(visible=versioned(pane, LAST) != LAST and not asking),
        LAST,
        offer,
        gr.update(visible=offer is not None, value=(offer or {}).get("label", "")),
        gr.update(interactive=asking),
    ]


def about(pane: Pane, turn: int, says: str = "") -> str:
    """What is to be known of the chosen turn: that it is chosen, and which of its versions is shown; as HTML."""
    parts = [f"<span>{escape(says)}</span>"] if says else []
    if turn != LAST:
        parts.append(f"<span>turn {turn + 1} is chosen</span>")
    if (at := versioned(pane, turn)) != LAST:
        now, count = turns.versions(pane, at)
        parts.append(f"<span>version {now + 1} of {count}</span>")
    return f'<div class="figures">{" · ".join(parts)}</div>' if parts else ""


def versioned(pane: Pane, turn: int) -> int:
    """The turn whose versions can be leafed through: the chosen one, or the last that has any; LAST if none."""
    chosen = range(len(pane.turns) - 1, -1, -1) if turn == LAST else [turn]
    return next((at for at in chosen if turns.versions(pane, at)[1] > 1), LAST)


def pressable(answering: bool) -> list[Any]:
    """Send and Stop."""
    return [gr.update(interactive=not answering), gr.update(interactive=answering)]


def is_busy(lines: Iterable[str]) -> bool:
    """Whether one of the panes with these lines of figures is answering."""
    return any(map(shown.is_live, lines))


def _saved(
    ctx: Context,
    chat_id: str,
    given: tuple[Any, ...],
    which: Collection[int],
    change: Callable[[Pane, Conversation], Pane],
) -> Conversation:
    """The conversation as the page is set, with some of its panes changed, which is on disk now."""
    wanted = Setup.of(*given[PANES:])
    if nobody := [LETTERS[at] for at, pick in enumerate(wanted.picks) if at in which and pick in ("", ADD)]:
        raise ConversationError(f"Nobody is picked to answer in pane {' and '.join(nobody)}: choose a model there")

    def changed(known: Conversation | None) -> Conversation:
        now = fitted(known, wanted)
        return _each(now, which, lambda pane: change(pane, now))

    return shelf(ctx).change(chat_id, changed) if chat_id else shelf(ctx).create(changed(None))


def _each(conversation: Conversation, which: Collection[int], change: Callable[[Pane], Pane]) -> Conversation:
    panes = (change(pane) if at in which else pane for at, pane in enumerate(conversation.panes))
    return replace(conversation, panes=tuple(panes))


def _again(conversation: Conversation, pane: Pane) -> Pane:
    if pane.turns:
        return turns.regenerated(pane)
    asked = (turn.content for beside in conversation.panes for turn in reversed(beside.turns) if turn.role == "user")
    prompt = next(asked, None)
    return turns.asked(pane, prompt) if prompt else pane


def _is_due(pane: Pane) -> bool:
    return bool(pane.turns) and pane.turns[-1].role != "assistant"


def _pane(ctx: Context, chat_id: str, index: int) -> Pane:
    try:
        panes = shelf(ctx).load(chat_id).panes if chat_id else ()
    except ConversationError:
        panes = ()
    return panes[index] if index < len(panes) else EMPTY
