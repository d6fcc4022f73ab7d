"""Lists of turns, under any names of keys and roles: ShareGPT and OpenAI messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.datasets.entry import Entry
from studio.datasets.formats.canonical import Message, Preference, Row, ToolCall
from studio.datasets.formats.fields import (
    Misfit,
    Record,
    fields_of,
    loads,
    missing,
    parse_json,
    parsed,
    require_text,
    shown,
)
from studio.datasets.formats.turns import as_json, check_order, conversation, preference, read_tools, with_system


def from_sharegpt(entry: Entry, record: Record) -> Row:
    """A list of turns, each with a role and a text; with chosen and rejected, or with a judgement."""
    tools = read_tools(entry, record)
    if entry.ranking:
        return _chat_preference(entry, record, tools)
    messages = with_system(entry, record, _turns(entry, record, entry.columns["messages"]))
    return conversation(entry, record, messages, tools)


def _chat_preference(entry: Entry, record: Record, tools: str | None) -> Preference:
    chosen, rejected = (_answers(entry, record, entry.columns[key]) for key in ("chosen", "rejected"))
    prompt = _asked(entry, record, chosen)
    if any(answer[:-1] not in ((), prompt) for answer in (chosen, rejected)):
        raise Misfit(
            "different_prompts", "the chosen and the rejected conversation must both begin with the same prompt"
        )
    prompt = with_system(entry, record, prompt)
    check_order((*prompt, chosen[-1]))
    return preference(prompt, chosen[-1], rejected[-1], tools)


def _asked(entry: Entry, record: Record, chosen: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt: in its own column, or else at the beginning of the chosen conversation."""
    name = entry.columns.get("messages")
    if name is not None and (record.get(name) is not None or len(chosen) == 1):
        return _turns(entry, record, name)
    return chosen[:-1]


def _answers(entry: Entry, record: Record, name: str) -> tuple[Message, ...]:
    """What a chosen or rejected column holds: a text, a turn, or a whole conversation."""
    value = _spelled(entry.tags, parsed(record.get(name), name))
    if value is None:
        raise Misfit("missing_field", missing(name, record))
    if isinstance(value, str):
        return (Message("assistant", require_text(value, name)),)
    turns = _messages(entry, value if isinstance(value, list) else [value], repr(name))
    if not turns or turns[-1].role != "assistant":
        raise Misfit("no_answer", f"{name!r} must end with an assistant turn, found {shown(value)}")
    return turns


def _spelled(tags: Mapping[str, str], value: Any) -> Any:
    """`value`, or the turn that it spells: a table holds it as JSON text. Other JSON is an answer like any other."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        turn = parse_json(value)
    except ValueError:
        return value
    return turn if tags["role_tag"] in turn and tags["content_tag"] in turn else value


def _turns(entry: Entry, record: Record, name: str) -> tuple[Message, ...]:
    value = parsed(record.get(name), name)
    if value is None:
        raise Misfit("missing_field", missing(name, record))
    if not isinstance(value, list):
        raise Misfit("wrong_type", f"{name!r} must be a list of turns, found {shown(value)}")
    if not value:
        raise Misfit("empty_field", f"{name!r} must not be empty")
    return _messages(entry, value, repr(name))


def _messages(entry: Entry, turns: list[Any], where: str) -> tuple[Message, ...]:
    messages = []
    for number, turn in enumerate(turns, 1):
        try:
            messages.append(_message(entry.tags, entry.roles, turn))
        except Misfit as misfit:
            code = "empty_turn" if misfit.code == "empty_field" else misfit.code
            raise Misfit(code, f"{where} turn {number}: {misfit}") from misfit
    if messages and messages[0].role == "system" and not messages[0].content.strip():
        messages = messages[1:]
    return tuple(messages)


def _message(tags: Mapping[str, str], roles: Mapping[str, str], turn: Any) -> Message:
    role_key, content_key = tags["role_tag"], tags["content_tag"]
    if not isinstance(turn, dict):
        raise Misfit("wrong_type", f"must be an object with {role_key!r} and {content_key!r}, found {shown(turn)}")
    name = turn.get(role_key)
    role = roles.get(name) if isinstance(name, str) else None
    if role is None:
        found = shown(name) if role_key in turn else f"fields {fields_of(turn)}"
        raise Misfit("wrong_role", f"{role_key!r} must be one of {', '.join(roles)}, found {found}")
    content = turn.get(content_key)
    if role == "function":
        return Message("assistant", "", _calls(loads(content, repr(content_key))))
    calls = _calls(turn["tool_calls"]) if role == "assistant" and turn.get("tool_calls") else ()
    silent = bool(calls) or role in ("tool", "system")
    return Message(role, _plain(content, content_key, empty_allowed=silent), calls)


def _plain(content: Any, name: str, empty_allowed: bool) -> str:
    """The text of a turn, also where it comes as a list of parts."""
    if isinstance(content, list):
        content = "".join(map(_part, content))
    if empty_allowed and (content is None or content == ""):
        return ""
    return require_text(content, name, empty_allowed)


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise Misfit("wrong_type", f"only parts of type text can be trained here, found {shown(part)}")


def _calls(calls: Any) -> tuple[ToolCall, ...]:
    return tuple(map(_call, calls if isinstance(calls, list) else [calls]))


def _call(call: Any) -> ToolCall:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Misfit("bad_tools", f'a tool call must be {{"name": …, "arguments": {{…}}}}, found {shown(call)}')
    arguments = loads(function.get("arguments") or {}, "'arguments'")
    if not isinstance(arguments, dict):
        raise Misfit("bad_tools", f"the arguments of {function['name']!r} must be an object, found {shown(arguments)}")
    return ToolCall(function["name"], as_json(arguments))
