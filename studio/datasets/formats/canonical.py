"""The four values that a row of any shape stands for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant calls; `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is system, user, assistant or tool; an assistant turn may call tools instead of speaking."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """An optional system turn, then user and assistant in turns, the assistant last. `tools` is a JSON list."""

    messages: tuple[Message, ...]
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text to go on with."""

    text: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, the first the better one."""

    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A conversation whose last answer was judged (KTO)."""

    messages: tuple[Message, ...]
    good: bool
    tools: str | None = None


Row = Conversation | Text | Preference | Feedback


def chat(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: role, content, and tool_calls with parsed arguments."""
    return [_chat_message(message) for message in messages]


def _chat_message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if not message.tool_calls:
        return plain
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls]
    return {**plain, "tool_calls": [{"type": "function", "function": call} for call in calls]}
