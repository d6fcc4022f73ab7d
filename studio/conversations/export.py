"""A conversation as a file for people (Markdown), or for programs (JSON)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pydantic import TypeAdapter

from studio.conversations import turns
from studio.conversations.conversation import Conversation, Figures, Pane, Turn
from studio.serving.client import ToolCall

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool"}

_CONVERSATION = TypeAdapter(Conversation)


def to_json(conversation: Conversation) -> str:
    """All there is, other versions of turns included, as indented JSON."""
    return _CONVERSATION.dump_json(conversation, indent=2, exclude_defaults=True).decode() + "\n"


def markdown(conversation: Conversation) -> str:
    """What is shown: each pane under its name, thoughts folded, calls of tools as code."""
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(conversation.created))
    parts = [f"# {conversation.title or turns.title(conversation) or 'Conversation'}", f"Begun {begun}."]
    if conversation.system:
        parts += ["## System prompt", conversation.system]
    if conversation.tools:
        parts += ["## Tools", _code(conversation.tools, "json")]
    for pane in conversation.panes:
        parts += [f"## {pane.pick}", *_pane(pane)]
    return "\n\n".join(parts) + "\n"


def _pane(pane: Pane) -> Iterator[str]:
    for turn in pane.turns:
        other = f" ({turn.by})" if turn.by not in ("", pane.pick) else ""
        yield f"**{SPEAKERS.get(turn.role, turn.role)}{other}:**"
        yield from _turn(turn)


def _turn(turn: Turn) -> Iterator[str]:
    thought, said = turns.thoughts(turn)
    if thought:
        yield f"<details><summary>Thoughts</summary>\n\n{thought}\n\n</details>"
    if said:
        yield said
    yield from map(_call, turn.tool_calls)
    if turn.note:
        yield f"> {turn.note}"
    if turn.figures:
        yield f"*{_figures(turn.figures)}*"


def _call(call: ToolCall) -> str:
    return _code(f"{call.name}({call.arguments})", "")


def _code(text: str, language: str) -> str:
    """A fence longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _figures(figures: Figures) -> str:
    parts = [f"{figures.tokens} tokens"]
    if figures.ttft_s is not None:
        parts.append(f"first token {figures.ttft_s * 1000:.0f} ms")
    if figures.tokens_per_s is not None:
        parts.append(f"{figures.tokens_per_s:.0f} tokens/s")
    return " · ".join([*parts, *([figures.finish_reason] if figures.finish_reason else [])])
