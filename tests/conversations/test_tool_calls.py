"""Calls of tools in the text of an answer, as models of several families write them."""

from __future__ import annotations

import pytest

from studio.conversations import tool_calls
from studio.serving.client import ToolCall

BERN = ToolCall("weather", '{"city": "Bern"}')


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>',
        'Let me look.\n<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call><|im_end|>',
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Bern\\"}"}',
        '{"name": "weather", "parameters": {"city": "Bern"}}',
        '<|python_tag|>{"name": "weather", "parameters": {"city": "Bern"}}',
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bern"}}]',
        '[TOOL_CALLS]weather{"city": "Bern"}',
        '[TOOL_CALLS]weather[ARGS]{"city": "Bern"}',
        '<tool_call>weather\n{"city": "Bern"}</tool_call>',
        '<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Bern</arg_value>\n</tool_call>',
        "<tool_call>\n<function=weather>\n<parameter=city>\nBern\n</parameter>\n</function>\n</tool_call>",
        '```json\n{"name": "weather", "arguments": {"city": "Bern"}}\n```',
    ],
)  # fmt: skip
def test_a_call_is_found_however_it_is_written(text: str) -> None:
    assert tool_calls.found(text) == (BERN,)


def test_several_calls_are_found_in_order() -> None:
    calls = [f'<tool_call>{{"name": "f{number}", "arguments": {{}}}}</tool_call>' for number in range(3)]
    assert [call.name for call in tool_calls.found(" and ".join(calls))] == ["f0", "f1", "f2"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello",
        '{"name": "Bern", "population": 134000}',
        '[1, {"a": 2}]',
        '{"name": 5, "arguments": {}}',
        '<tool_call>{"name": "weather", "argum',
        "<tool_call></tool_call>",
        "<tool_call>weather</tool_call>",
        "<tool_call>" + "[" * 100_000,
        'Write {"name": "f", "arguments": {}} to call f.',
        "```json\n[1]\n```",
    ],
)
def test_what_is_no_call_is_none(text: str) -> None:
    assert tool_calls.found(text) == ()


def test_thoughts_about_a_call_are_none() -> None:
    text = '<think>I could write <tool_call>{"name": "f", "arguments": {}}</tool_call></think>Hi'
    assert tool_calls.found(text) == ()
