"""Calls of tools that a model has written into its text, where the server does not take them out.

Known is what common models are trained to write: JSON between <tool_call> tags (Hermes, Qwen), tags for each parameter
(Qwen Coder, GLM), JSON alone or after <|python_tag|> (Llama 3), a list or a name after [TOOL_CALLS] (Mistral).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from studio.serving.client import ToolCall

BLOCK = re.compile(
    r"<tool_call>(.*?)(?:</tool_call>|$)|(?:\[TOOL_CALLS\]|<\|python_tag\|>)(.*?)(?=\[TOOL_CALLS\]|<\|python_tag\|>|$)",
    re.DOTALL,
)
FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
NAMED = re.compile(r"([\w.-]+)(?:\[ARGS\])?\n?(\{.*\})", re.DOTALL)
QWEN_CODER = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|$)", re.DOTALL)
QWEN_CODER_PARAMETER = re.compile(r"<parameter=([\w.-]+)>\s*(.*?)\s*</parameter>", re.DOTALL)
GLM = re.compile(r"([\w.-]+)\s*(<arg_key>.*)", re.DOTALL)
GLM_PARAMETER = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def found(text: str) -> tuple[ToolCall, ...]:
    """The calls in an answer, in order; none where it holds none that is complete. Thoughts call nothing."""
    said = text.rpartition("</think>")[2].strip()
    if blocks := [tagged or listed for tagged, listed in BLOCK.findall(said)]:
        return tuple(call for block in blocks for call in _in_block(block.strip()))
    fenced = FENCE.fullmatch(said)
    return tuple(_in_json(fenced[1] if fenced else said))


def _in_block(text: str) -> Iterator[ToolCall]:
    if functions := QWEN_CODER.findall(text):
        for name, parameters in functions:
            yield ToolCall(name, _arguments(QWEN_CODER_PARAMETER.findall(parameters)))
    elif match := GLM.fullmatch(text):
        yield ToolCall(match[1], _arguments(GLM_PARAMETER.findall(match[2])))
    else:
        yield from _in_json(text)


def _in_json(text: str) -> Iterator[ToolCall]:
    if named := NAMED.fullmatch(text):
        if isinstance(_json(named[2]), dict):
            yield ToolCall(named[1], named[2])
        return
    value = _json(text)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield from _call(item)


def _call(value: dict[str, Any]) -> Iterator[ToolCall]:
    for key in ("arguments", "parameters"):
        if key in value:
            yield ToolCall(value["name"], _text(value[key]))
            return


def _arguments(parameters: Iterable[tuple[str, str]]) -> str:
    """Texts stand there bare, all else as JSON."""
    values = {key: text if (value := _json(text)) is None else value for key, text in parameters}
    return json.dumps(values, ensure_ascii=False)


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
