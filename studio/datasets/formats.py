"""Every shape a row may have, turned into one of four canonical values.

A row that does not fit raises RowError: which field, what stands there, what was expected. Nothing is added to a
row: no invented system prompt, no reordering, no filling in of empty turns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from studio.datasets.entry import Entry
from studio.errors import RowError

Record = Mapping[str, Any]
SHOWN_CHARS = 60


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


class _Misfit(Exception):
    """What is wrong with a record, before its row number is known. `code` names the kind of fault (see checks)."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        super().__init__(what)


def convert(entry: Entry, row: int, record: Record) -> Row:
    """The canonical value of `record`, the `row`-th of its file, read as `entry` says.

    Raises:
        RowError: it does not fit.
    """
    try:
        return FORMATS[entry.formatting](entry, record)
    except _Misfit as misfit:
        raise RowError(row, str(misfit), misfit.code) from misfit
    except RecursionError as error:
        raise RowError(row, "it is nested too deeply", "too_deep") from error


def chat(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: role, content, and tool_calls with parsed arguments."""
    return [_chat_message(message) for message in messages]


def _chat_message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if not message.tool_calls:
        return plain
    calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls]
    return {**plain, "tool_calls": [{"type": "function", "function": call} for call in calls]}


def shown(value: Any) -> str:
    """A value as an error message shows it: its kind and its beginning."""
    if value is None:
        return "null"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    short = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
    return f"{_kind(value)} {short!r}" if isinstance(value, str) else f"{_kind(value)} {short}"


def _kind(value: Any) -> str:
    kinds = {bool: "the truth value", int: "the number", float: "the number", str: "the text", list: "the list"}
    return kinds.get(type(value), "the object" if isinstance(value, dict) else f"a {type(value).__name__}")


# --- alpaca -----------------------------------------------------------------------------------------------------


def from_alpaca(entry: Entry, record: Record) -> Row:
    """instruction, input, output, system, history; with chosen and rejected, or with a judgement; or text alone."""
    columns = entry.columns
    if _is_text(entry, record):
        return Text(_text(record, columns["prompt"]))
    prompt = (*_system(entry, record), *_history(entry, record), Message("user", _question(entry, record)))
    tools = _tools(entry, record)
    if entry.ranking:
        chosen, rejected = (Message("assistant", _text(record, columns[key])) for key in ("chosen", "rejected"))
        return _preference(prompt, chosen, rejected, tools)
    answer = Message("assistant", _text(record, columns["response"]))
    return _conversation(entry, record, (*prompt, answer), tools)


def _is_text(entry: Entry, record: Record) -> bool:
    """LLaMA-Factory marks plain text by naming a prompt column and nothing to answer with."""
    if entry.ranking:
        return False
    answer = entry.columns.get("response")
    guessed = "prompt" in entry.mapped and "response" not in entry.mapped
    return answer is None or (guessed and answer not in record)


def _question(entry: Entry, record: Record) -> str:
    names = [entry.columns[role] for role in ("prompt", "query") if role in entry.columns]
    present = [name for name in names if record.get(name) is not None]
    if not present:
        raise _Misfit("missing_field", _missing(names[0], record))
    texts = [_require_text(record[name], name, empty_allowed=True) for name in present]
    question = "\n".join(text for text in texts if text.strip())
    if not question:
        raise _Misfit("empty_field", f"{' and '.join(map(repr, present))} must not be empty")
    return question


def _history(entry: Entry, record: Record) -> tuple[Message, ...]:
    name = entry.columns.get("history")
    pairs = _parsed(record.get(name), name) if name else None
    if not pairs:
        return ()
    if not isinstance(pairs, list):
        raise _Misfit("wrong_type", f"{name!r} must be a list of [question, answer] pairs, found {shown(pairs)}")
    return tuple(message for number, pair in enumerate(pairs, 1) for message in _pair(pair, f"{name!r} pair {number}"))


def _pair(pair: Any, where: str) -> tuple[Message, Message]:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise _Misfit("wrong_type", f"{where} must be [question, answer], found {shown(pair)}")
    if not all(text.strip() for text in pair):
        raise _Misfit("empty_turn", f"{where} must not hold an empty text, found {shown(pair)}")
    return Message("user", pair[0]), Message("assistant", pair[1])


# --- sharegpt and openai ----------------------------------------------------------------------------------------


def from_sharegpt(entry: Entry, record: Record) -> Row:
    """A list of turns, each with a role and a text; with chosen and rejected, or with a judgement."""
    tools = _tools(entry, record)
    if entry.ranking:
        return _chat_preference(entry, record, tools)
    messages = _with_system(entry, record, _turns(entry, record, entry.columns["messages"]))
    return _conversation(entry, record, messages, tools)


def _chat_preference(entry: Entry, record: Record, tools: str | None) -> Preference:
    chosen, rejected = (_answers(entry, record, entry.columns[key]) for key in ("chosen", "rejected"))
    prompt = _asked(entry, record, chosen)
    if any(answer[:-1] not in ((), prompt) for answer in (chosen, rejected)):
        raise _Misfit(
            "different_prompts", "the chosen and the rejected conversation must both begin with the same prompt"
        )
    prompt = _with_system(entry, record, prompt)
    _check_order((*prompt, chosen[-1]))
    return _preference(prompt, chosen[-1], rejected[-1], tools)


def _asked(entry: Entry, record: Record, chosen: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt: in its own column, or else at the beginning of the chosen conversation."""
    name = entry.columns.get("messages")
    if name is not None and (record.get(name) is not None or len(chosen) == 1):
        return _turns(entry, record, name)
    return chosen[:-1]


def _answers(entry: Entry, record: Record, name: str) -> tuple[Message, ...]:
    """What a chosen or rejected column holds: a text, a turn, or a whole conversation."""
    value = _parsed(record.get(name), name)
    if value is None:
        raise _Misfit("missing_field", _missing(name, record))
    if isinstance(value, str):
        return (Message("assistant", _require_text(value, name)),)
    turns = _messages(entry, value if isinstance(value, list) else [value], repr(name))
    if not turns or turns[-1].role != "assistant":
        raise _Misfit("no_answer", f"{name!r} must end with an assistant turn, found {shown(value)}")
    return turns


def _turns(entry: Entry, record: Record, name: str) -> tuple[Message, ...]:
    value = _parsed(record.get(name), name)
    if value is None:
        raise _Misfit("missing_field", _missing(name, record))
    if not isinstance(value, list):
        raise _Misfit("wrong_type", f"{name!r} must be a list of turns, found {shown(value)}")
    if not value:
        raise _Misfit("empty_field", f"{name!r} must not be empty")
    return _messages(entry, value, repr(name))


def _messages(entry: Entry, turns: list[Any], where: str) -> tuple[Message, ...]:
    roles = _roles(entry.tags)
    messages = []
    for number, turn in enumerate(turns, 1):
        try:
            messages.append(_message(entry.tags, roles, turn))
        except _Misfit as misfit:
            code = "empty_turn" if misfit.code == "empty_field" else misfit.code
            raise _Misfit(code, f"{where} turn {number}: {misfit}") from misfit
    if messages and messages[0].role == "system" and not messages[0].content.strip():
        messages = messages[1:]
    return tuple(messages)


def _roles(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        tags["user_tag"]: "user",
        tags["assistant_tag"]: "assistant",
        tags["observation_tag"]: "tool",
        tags["function_tag"]: "function",
        tags["system_tag"]: "system",
    }


def _message(tags: Mapping[str, str], roles: Mapping[str, str], turn: Any) -> Message:
    role_key, content_key = tags["role_tag"], tags["content_tag"]
    if not isinstance(turn, dict):
        raise _Misfit("wrong_type", f"must be an object with {role_key!r} and {content_key!r}, found {shown(turn)}")
    name = turn.get(role_key)
    role = roles.get(name) if isinstance(name, str) else None
    if role is None:
        found = shown(name) if role_key in turn else f"fields {_fields(turn)}"
        raise _Misfit("wrong_role", f"{role_key!r} must be one of {', '.join(roles)}, found {found}")
    content = turn.get(content_key)
    if role == "function":
        return Message("assistant", "", _calls(_loads(content, repr(content_key))))
    calls = _calls(turn["tool_calls"]) if role == "assistant" and turn.get("tool_calls") else ()
    silent = bool(calls) or role in ("tool", "system")
    return Message(role, _plain(content, content_key, empty_allowed=silent), calls)


def _plain(content: Any, name: str, empty_allowed: bool) -> str:
    """The text of a turn, also where it comes as a list of parts."""
    if isinstance(content, list):
        content = "".join(map(_part, content))
    if empty_allowed and (content is None or content == ""):
        return ""
    return _require_text(content, name, empty_allowed)


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise _Misfit("wrong_type", f"only parts of type text can be trained here, found {shown(part)}")


def _loads(content: Any, name: str) -> Any:
    try:
        return orjson.loads(content) if isinstance(content, str) else content
    except orjson.JSONDecodeError as error:
        raise _Misfit("bad_json", f"{name} must be JSON, found {shown(content)}") from error


def _calls(calls: Any) -> tuple[ToolCall, ...]:
    return tuple(map(_call, calls if isinstance(calls, list) else [calls]))


def _call(call: Any) -> ToolCall:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _Misfit("bad_tools", f'a tool call must be {{"name": …, "arguments": {{…}}}}, found {shown(call)}')
    arguments = _loads(function.get("arguments") or {}, "'arguments'")
    if not isinstance(arguments, dict):
        raise _Misfit("bad_tools", f"the arguments of {function['name']!r} must be an object, found {shown(arguments)}")
    return ToolCall(function["name"], json.dumps(arguments, ensure_ascii=False))


def _with_system(entry: Entry, record: Record, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A system turn of the conversation goes before the system column."""
    if messages and messages[0].role == "system":
        return messages
    return (*_system(entry, record), *messages)


# --- shared -----------------------------------------------------------------------------------------------------


def _conversation(entry: Entry, record: Record, messages: tuple[Message, ...], tools: str | None) -> Row:
    _check_order(messages)
    if "kto_tag" in entry.columns:
        return Feedback(messages, _judgement(record, entry.columns["kto_tag"]), tools)
    return Conversation(messages, tools)


def _preference(prompt: tuple[Message, ...], chosen: Message, rejected: Message, tools: str | None) -> Preference:
    if chosen == rejected:
        raise _Misfit("same_answers", "the chosen and the rejected answer are the same, so there is nothing to prefer")
    return Preference(prompt, chosen, rejected, tools)


_AFTER = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def _check_order(messages: tuple[Message, ...]) -> None:
    before = ""
    for number, message in enumerate(messages, 1):
        if message.role not in _AFTER[before]:
            place = f"after {before}" if before else "first"
            raise _Misfit(
                "role_order", f"turn {number} is {message.role}; {place} there must be {' or '.join(_AFTER[before])}"
            )
        before = message.role
    if before != "assistant":
        raise _Misfit(
            "no_answer", f"the last turn is {before or 'missing'}; it must be assistant, or there is nothing to learn"
        )


def _judgement(record: Record, name: str) -> bool:
    value = record.get(name)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if value is None:
        raise _Misfit("missing_field", _missing(name, record))
    if not isinstance(value, bool):
        raise _Misfit("wrong_type", f"{name!r} must be true or false, found {shown(value)}")
    return value


def _system(entry: Entry, record: Record) -> tuple[Message, ...]:
    name = entry.columns.get("system")
    value = record.get(name) if name else None
    if name is None or value is None or (isinstance(value, str) and not value.strip()):
        return ()
    return (Message("system", _require_text(value, name)),)


def _tools(entry: Entry, record: Record) -> str | None:
    name = entry.columns.get("tools")
    value = record.get(name) if name else None
    if value is None or value in ("", []):
        return None
    tools = _loads(value, repr(name))
    if not isinstance(tools, list):
        raise _Misfit("bad_tools", f"{name!r} must be a JSON list of tools, found {shown(value)}")
    return json.dumps(tools, ensure_ascii=False) if tools else None


def _parsed(value: Any, name: str | None) -> Any:
    """CSV cells and some exports hold lists as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[[", "[]")):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise _Misfit("bad_json", f"{name!r} looks like JSON but is damaged: found {shown(value)}") from error
    return value


def _text(record: Record, name: str) -> str:
    if record.get(name) is None:
        raise _Misfit("missing_field", _missing(name, record))
    return _require_text(record[name], name)


def _require_text(value: Any, name: str, empty_allowed: bool = False) -> str:
    if not isinstance(value, str):
        raise _Misfit("wrong_type", f"{name!r} must be text, found {shown(value)}")
    if not empty_allowed and not value.strip():
        raise _Misfit("empty_field", f"{name!r} must not be empty")
    return value


def _fields(record: Record) -> str:
    names = [name[:SHOWN_CHARS] for name in islice(record, 12)]
    return ", ".join([*names, "…"] if len(record) > len(names) else names) or "none"


def _missing(name: str, record: Record) -> str:
    if name in record:
        return f"{name!r} must not be null"
    return f"has no field {name!r}; its fields are {_fields(record)}"


FORMATS: dict[str, Callable[[Entry, Record], Row]] = {
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
    "openai": from_sharegpt,
}
