"""Calls of tools that a model has written into its text, where the server does not take them out.

Known are what common models are trained to write: a JSON object between <tool_call> tags (Qwen, Hermes), after
<|python_tag|> or alone (Llama 3), a list after [TOOL_CALLS] (Mistral), and a name with JSON after it (GLM).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from studio.serving.client import ToolCall

TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.DOTALL)
LISTED = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>)\s*(.*)", re.DOTALL)
NAMED = re.compile(r"([\w.-]+)\s*(\{.*\})", re.DOTALL)


def found(text: str) -> tuple[ToolCall, ...]:
    """The calls in an answer, in order; none where it holds none that is complete."""
    if blocks := TAGGED.findall(text):
        return tuple(call for block in blocks for call in _calls(block))
    if listed := LISTED.search(text):
        return tuple(_calls(listed[1]))
    return tuple(_calls(text)) if text.lstrip().startswith(("{", "[")) else ()


def _calls(text: str) -> Iterator[ToolCall]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        yield from _named(text)
        return
    for item in value if isinstance(value, list) else [value]:
        if call := _call(item):
            yield call


def _named(text: str) -> Iterator[ToolCall]:
    if match := NAMED.fullmatch(text.strip()):
        try:
            json.loads(match[2])
        except (ValueError, RecursionError):
            return
        yield ToolCall(match[1], match[2])


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    key = next((key for key in ("arguments", "parameters") if key in value), None)
    if key is None:
        return None
    arguments = value[key]
    return ToolCall(
        value["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    )
