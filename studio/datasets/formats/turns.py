"""What all shapes have: the system turn, tools, the order of turns, the judgement."""

from __future__ import annotations

import json
from typing import Any

from studio.datasets.entry import Entry
from studio.datasets.formats.canonical import Conversation, Feedback, Message, Preference, Row
from studio.datasets.formats.fields import Misfit, Record, loads, missing, require_text, shown

# deeper than any real tool; what reads it later must not run out of stack
DEPTH_MAX = 100


def conversation(entry: Entry, record: Record, messages: tuple[Message, ...], tools: str | None) -> Row:
    """The value of turns that end with an answer, judged where the entry has a column for that."""
    check_order(messages)
    if "kto_tag" in entry.columns:
        return Feedback(messages, _judgement(record, entry.columns["kto_tag"]), tools)
    return Conversation(messages, tools)


def preference(prompt: tuple[Message, ...], chosen: Message, rejected: Message, tools: str | None) -> Preference:
    """The value of two answers that differ."""
    if chosen == rejected:
        raise Misfit("same_answers", "the chosen and the rejected answer are the same, so there is nothing to prefer")
    return Preference(prompt, chosen, rejected, tools)


_AFTER = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def check_order(messages: tuple[Message, ...]) -> None:
    """Refuse turns that no conversation has in this order, or that nothing can be learned from."""
    before = ""
    for number, message in enumerate(messages, 1):
        if message.role not in _AFTER[before]:
            place = f"after {before}" if before else "first"
            raise Misfit(
                "role_order", f"turn {number} is {message.role}; {place} there must be {' or '.join(_AFTER[before])}"
            )
        before = message.role
    if before != "assistant":
        raise Misfit(
            "no_answer", f"the last turn is {before or 'missing'}; it must be assistant, or there is nothing to learn"
        )


def read_system(entry: Entry, record: Record) -> tuple[Message, ...]:
    """The system turn of the column for it, if there is one."""
    name = entry.columns.get("system")
    value = record.get(name) if name else None
    if name is None or value is None or (isinstance(value, str) and not value.strip()):
        return ()
    return (Message("system", require_text(value, name)),)


def with_system(entry: Entry, record: Record, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A system turn of the conversation goes before the system column."""
    if messages and messages[0].role == "system":
        return messages
    return (*read_system(entry, record), *messages)


def read_tools(entry: Entry, record: Record) -> str | None:
    """The tools of a record as a JSON list."""
    name = entry.columns.get("tools")
    value = record.get(name) if name else None
    if value is None or value in ("", []):
        return None
    tools = loads(value, repr(name))
    if not isinstance(tools, list):
        raise Misfit("bad_tools", f"{name!r} must be a JSON list of tools, found {shown(value)}")
    return as_json(tools) if tools else None


def as_json(value: Any) -> str:
    """`value` as JSON text that can be parsed again."""
    text = json.dumps(value, ensure_ascii=False)
    if text.count("{") + text.count("[") > DEPTH_MAX and _depth(value) > DEPTH_MAX:
        raise Misfit("too_deep", f"it is nested more than {DEPTH_MAX} levels deep")
    return text


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _judgement(record: Record, name: str) -> bool:
    value = record.get(name)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if value is None:
        raise Misfit("missing_field", missing(name, record))
    if not isinstance(value, bool):
        raise Misfit("wrong_type", f"{name!r} must be true or false, found {shown(value)}")
    return value
