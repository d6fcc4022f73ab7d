"""What a chat template leaves out of a conversation with tools.

Many templates pass over tool calls, observations or the tools themselves without a word, and an empty answer would be
learnt. Looking for the very texts proves nothing: a function's name also stands among the tools, an argument in the
question, and every template writes arguments in its own way. So such a conversation is rendered once more with a mark,
which no text has, in the place of each of them: what the template uses shows its mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Mark = Callable[[str], str]
REMEDY = "choose a model or a template (such as qwen or llama3) that knows tools"


def left_out(messages: list[dict[str, Any]], tools: Any, render: Callable[[list[dict[str, Any]], Any], str]) -> str:
    """The first thing that `render` makes no use of, in words; empty where it shows all, or where there are no tools.

    `messages` and `tools` are as chat templates take them.
    """
    if not tools and not any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        return ""
    meanings: dict[str, str] = {}

    def mark(meaning: str) -> str:
        text = f"seedbed{len(meanings)}mark"
        meanings[text] = meaning
        return text

    marked = [_marked_message(message, mark) for message in messages]
    text = render(marked, [_marked_tool(tool, mark) for tool in tools] if isinstance(tools, list) else tools)
    return next((meaning for mark, meaning in meanings.items() if mark not in text), "")


def told(what: str) -> str:
    """A sentence about a row of which `what` is left out."""
    return f"the model's chat template leaves out {what}: {REMEDY}"


def _marked_message(message: dict[str, Any], mark: Mark) -> dict[str, Any]:
    if message["role"] == "tool":
        return {**message, "content": mark("what a tool answered")}
    if "tool_calls" not in message:
        return message
    calls = [{**call, "function": _marked_call(call["function"], mark)} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _marked_call(function: dict[str, Any], mark: Mark) -> dict[str, Any]:
    call = f"its call of {function['name']}"
    return {"name": mark(call), "arguments": {key: mark(f"{key} in {call}") for key in function["arguments"]}}


def _marked_tool(tool: Any, mark: Mark) -> Any:
    """Tools are described as {"type": "function", "function": {"name": …}} or by the inner part alone."""
    if not isinstance(tool, dict):
        return tool
    if isinstance(tool.get("function"), dict):
        return {**tool, "function": _marked_tool(tool["function"], mark)}
    return {**tool, "name": mark(f"the tool {tool['name']}")} if isinstance(tool.get("name"), str) else tool
