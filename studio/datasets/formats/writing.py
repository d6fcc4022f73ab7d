"""A canonical value as a record of any shape that can hold it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from studio.datasets.entry import TAGS, Entry, describe
from studio.datasets.formats.canonical import Conversation, Feedback, Message, Preference, Row, Text, ToolCall
from studio.datasets.formats.fields import Misfit

Fields = dict[str, Any]


def to_record(shape: str, value: Row) -> Fields:
    """The record of `shape` that stands for `value`.

    Raises:
        Misfit: the shape has no place for something in it.
    """
    write, _ = SHAPES[shape]
    return write(value)


def shaped(name: str, shape: str, kind: type[Row]) -> Entry:
    """The entry that reads records of `shape` that hold values of `kind`."""
    _, columns = SHAPES[shape]
    ranking = kind is Preference
    judged = {"kto_tag": JUDGED.get(shape, "kto_tag")} if kind is Feedback else {}
    formatting = shape if shape in ("sharegpt", "openai") else "alpaca"
    used = {role: column for role, column in columns.items() if not (ranking and role == "response")}
    return describe(name, "", formatting, {**used, **judged}, ranking=ranking)


def _alpaca(value: Row) -> Fields:
    system, history, question = _asked(value)
    pairs = {"history": history} if history else {}
    return {"instruction": question, "input": "", **_answered(value, "output", "kto_tag"), **system, **pairs}


def _prompt_completion(value: Row) -> Fields:
    system, history, question = _asked(value)
    if history:
        raise Misfit("", "it has earlier turns, which this shape has no place for")
    return {"prompt": question, **_answered(value, "completion", "label"), **system}


def _text(value: Row) -> Fields:
    if not isinstance(value, Text):
        raise Misfit("", f"it is a {type(value).__name__.lower()}; plain text has no turns")
    return {"text": value.text}


def _asked(value: Row) -> tuple[Fields, list[list[str]], str]:
    """What stands around the answer in a flat record: system and tools, pairs of turns before, the question."""
    turns = list(_prompt_of(value))
    if any(turn.tool_calls or turn.role == "tool" for turn in turns):
        raise Misfit("", "it calls tools, which this shape has no place for")
    around: Fields = {"system": turns.pop(0).content} if turns[0].role == "system" else {}
    if tools := _tools_of(value):
        around["tools"] = tools
    pairs = [[turns[at].content, turns[at + 1].content] for at in range(0, len(turns) - 1, 2)]
    return around, pairs, turns[-1].content


def _answered(value: Row, answer: str, judgement: str) -> Fields:
    if isinstance(value, Preference):
        return {"chosen": _spoken(value.chosen), "rejected": _spoken(value.rejected)}
    if isinstance(value, Feedback):
        return {answer: _spoken(value.messages[-1]), judgement: value.good}
    assert isinstance(value, Conversation)
    return {answer: _spoken(value.messages[-1])}


def _spoken(answer: Message) -> str:
    if answer.tool_calls:
        raise Misfit("", "it calls tools, which this shape has no place for")
    return answer.content


def _sharegpt(value: Row) -> Fields:
    return _in_turns(value, "conversations", _sharegpt_turn)


def _openai(value: Row) -> Fields:
    return _in_turns(value, "messages", _openai_turn)


def _in_turns(value: Row, name: str, turn: Callable[[Message], Fields]) -> Fields:
    tools = _tools_of(value)
    end: Fields = {"tools": tools} if tools else {}
    if isinstance(value, Preference):
        end = {"chosen": turn(value.chosen), "rejected": turn(value.rejected), **end}
        return {name: [turn(message) for message in value.prompt], **end}
    if isinstance(value, Feedback):
        end["kto_tag"] = value.good
    return {name: [turn(message) for message in _turns_of(value)], **end}


def _sharegpt_turn(message: Message) -> Fields:
    if not message.tool_calls:
        return {"from": _SHAREGPT_ROLES[message.role], "value": message.content}
    if message.content:
        raise Misfit("", "one answer both speaks and calls tools, which sharegpt cannot say")
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls]
    spelled = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    return {"from": TAGS["function_tag"], "value": spelled}


def _openai_turn(message: Message) -> Fields:
    turn: Fields = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [_openai_call(call) for call in message.tool_calls]
    return turn


def _openai_call(call: ToolCall) -> Fields:
    return {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _prompt_of(value: Row) -> tuple[Message, ...]:
    return value.prompt if isinstance(value, Preference) else _turns_of(value)[:-1]


def _turns_of(value: Row) -> tuple[Message, ...]:
    if isinstance(value, Text):
        raise Misfit("", "it is plain text: it has no question and no answer")
    assert not isinstance(value, Preference)
    return value.messages


def _tools_of(value: Row) -> str | None:
    return None if isinstance(value, Text) else value.tools


_SHAREGPT_ROLES = {
    "system": TAGS["system_tag"],
    "user": TAGS["user_tag"],
    "assistant": TAGS["assistant_tag"],
    "tool": TAGS["observation_tag"],
}
_AROUND = {"system": "system", "tools": "tools"}
_PROMPT_COMPLETION = {"prompt": "prompt", "query": None, "response": "completion"}
# how each is written, and which column then holds what
SHAPES: dict[str, tuple[Callable[[Row], Fields], Mapping[str, str | None]]] = {
    "alpaca": (_alpaca, {**_AROUND, "history": "history"}),
    "sharegpt": (_sharegpt, {"tools": "tools"}),
    "openai": (_openai, {"tools": "tools"}),
    "prompt_completion": (_prompt_completion, {**_PROMPT_COMPLETION, **_AROUND}),
    "text": (_text, {"prompt": "text", "response": None}),
}
JUDGED = {"prompt_completion": "label"}
