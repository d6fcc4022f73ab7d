"""What happens in a pane: a prompt, an answer, another answer, an edit. Panes go in, panes come out.

`at` is the index of a turn in the path that is shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from studio.conversations.conversation import Conversation, Figures, Pane, Turn, new_id
from studio.serving.client import Message
from studio.serving.panes import State, View

Tail = tuple[Turn, ...]

TITLE_MAX_CHARS = 60
SILENT = "The model ended its answer before the first word."


def asked(pane: Pane, prompt: str) -> Pane:
    """The pane with a new prompt at its end."""
    return replace(pane, turns=(*pane.turns, Turn("user", prompt)))


def answered(pane: Pane, view: View) -> Pane:
    """The pane with an answer to its last prompt, as far as it has come, and why it came no further."""
    silent = view.state is State.DONE and not (view.text or view.reasoning or view.tool_calls)
    turn = Turn(
        "assistant", with_thoughts(view.text), view.reasoning, view.tool_calls,
        view.error or (SILENT if silent else ""), Figures.of(view), view.logprobs, by=pane.pick,
    )  # fmt: skip
    return replace(pane, turns=(*pane.turns, turn))


def regenerated(pane: Pane) -> Pane:
    """The pane as it was before its last prompt was answered; that answer stays as another version."""
    last = max((at for at, turn in enumerate(pane.turns) if turn.role != "assistant"), default=-1)
    return _instead(pane, last + 1, ()) if 0 <= last < len(pane.turns) - 1 else pane


def edited(pane: Pane, at: int, text: str) -> Pane:
    """The pane with another text in a turn, and nothing after it; what was there stays as another version."""
    if pane.turns[at].content == text:
        return pane
    return _instead(pane, at, (Turn(pane.turns[at].role, text, by=pane.turns[at].by),))


def cleared(pane: Pane) -> Pane:
    """The pane with nothing in it; what was there stays as another beginning."""
    return _instead(pane, 0, ())


def versions(pane: Pane, at: int) -> tuple[int, int]:
    """Which version of a turn is shown, counted from 0, and how many there are."""
    everything = _everything(pane, at)
    return everything.index(pane.turns[at:]), len(everything)


def switched(pane: Pane, at: int, version: int) -> Pane:
    """The pane with another version of a turn, and with what followed that one."""
    return _instead(pane, at, _everything(pane, at)[version])


def branched(conversation: Conversation, index: int, at: int) -> Conversation:
    """A conversation of its own that shares all turns up to and with `at` of one pane.

    The other panes are cut where they had heard as many prompts.
    """
    prompts = sum(turn.role == "user" for turn in conversation.panes[index].turns[: at + 1])
    now = time.time()
    panes = [
        replace(pane, turns=pane.turns[: at + 1] if place == index else _up_to(pane.turns, prompts))
        for place, pane in enumerate(conversation.panes)
    ]
    return replace(
        conversation, id=new_id(), created=now, updated=now, parent=conversation.id, panes=tuple(map(_bare, panes))
    )


def title(conversation: Conversation) -> str:
    """The beginning of the first prompt; empty before there is one."""
    prompts = (turn.content for pane in conversation.panes for turn in pane.turns if turn.role == "user")
    words = " ".join(next(prompts, "").split())
    if len(words) <= TITLE_MAX_CHARS:
        return words
    head = words[:TITLE_MAX_CHARS]
    return f"{head[: head.rfind(' ')] if ' ' in head[TITLE_MAX_CHARS // 2 :] else head}…"


def messages(pane: Pane, system: str = "") -> tuple[Message, ...]:
    """What the model is sent: no notes of ours, and no prompts that it never answered, but for the last."""
    said = [turn for turn in pane.turns if turn.role != "assistant" or turn.content or turn.tool_calls]
    kept = [turn for turn, after in zip(said, [*said[1:], None], strict=True) if _goes_on(turn, after)]
    head = [{"role": "system", "content": system.strip()}] if system.strip() else []
    return (*head, *_messages(kept))


def with_thoughts(text: str) -> str:
    """An answer whose thoughts were begun by the prompt, as templates of reasoning models do, with their beginning."""
    return f"<think>{text}" if "</think>" in text and "<think>" not in text else text


def thoughts(turn: Turn) -> tuple[str, str]:
    """What was thought and what was said, however the server has told them apart."""
    before, mark, said = turn.content.partition("</think>")
    if turn.reasoning or not (mark or before.lstrip().startswith("<think>")):
        return turn.reasoning, turn.content
    return before.replace("<think>", "", 1).strip(), said.lstrip()


def _instead(pane: Pane, at: int, tail: Tail) -> Pane:
    """The pane with `tail` from `at` on; what it replaces is kept beside it, where it says anything."""
    replaced, others = pane.turns[at:], _others(pane, at)
    kept = tuple(other for other in others if other != tail)
    if any(turn.says_something for turn in replaced):
        kept = (*kept, replaced)
    if at == 0:
        return replace(pane, turns=tail, others=kept)
    before = replace(pane.turns[at - 1], others=kept)
    return replace(pane, turns=(*pane.turns[: at - 1], before, *tail))


def _everything(pane: Pane, at: int) -> list[Tail]:
    """All that was said from `at` on, oldest first."""
    return sorted([*_others(pane, at), pane.turns[at:]], key=lambda tail: tail[0].at)


def _others(pane: Pane, at: int) -> tuple[Tail, ...]:
    return pane.turns[at - 1].others if at else pane.others


def _up_to(turns: Tail, prompts: int) -> Tail:
    """The turns before prompt number `prompts` + 1."""
    begins = [at for at, turn in enumerate(turns) if turn.role == "user"]
    return turns[: begins[prompts]] if prompts < len(begins) else turns


def _bare(pane: Pane) -> Pane:
    """Other versions stay in the conversation that was branched off."""
    return replace(pane, turns=tuple(replace(turn, others=()) for turn in pane.turns), others=())


def _goes_on(turn: Turn, after: Turn | None) -> bool:
    return turn.role != "user" or after is None or after.role == "assistant"


def _messages(turns: Sequence[Turn]) -> list[Message]:
    sent: list[Message] = []
    waiting: list[str] = []  # calls that still lack their result
    for turn in turns:
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.tool_calls:
            message["tool_calls"] = [call.to_json() for call in turn.tool_calls]
            waiting = [call.id for call in turn.tool_calls]
        if turn.role == "tool" and waiting:
            message["tool_call_id"] = waiting.pop(0)
        sent.append(message)
    return sent
