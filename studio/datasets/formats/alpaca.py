"""The Alpaca shape: a question, perhaps more of it, an answer; or plain text."""

from __future__ import annotations

from typing import Any

from studio.datasets.entry import Entry
from studio.datasets.formats.canonical import Message, Row, Text
from studio.datasets.formats.fields import Misfit, Record, missing, parsed, read_text, require_text, shown
from studio.datasets.formats.turns import conversation, preference, read_system, read_tools


def from_alpaca(entry: Entry, record: Record) -> Row:
    """instruction, input, output, system, history; with chosen and rejected, or with a judgement; or text alone."""
    columns = entry.columns
    if _is_text(entry, record):
        return Text(read_text(record, columns["prompt"]))
    prompt = (*read_system(entry, record), *_history(entry, record), Message("user", _question(entry, record)))
    tools = read_tools(entry, record)
    if entry.ranking:
        chosen, rejected = (Message("assistant", read_text(record, columns[key])) for key in ("chosen", "rejected"))
        return preference(prompt, chosen, rejected, tools)
    answer = Message("assistant", read_text(record, columns["response"]))
    return conversation(entry, record, (*prompt, answer), tools)


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
        raise Misfit("missing_field", missing(names[0], record))
    texts = [require_text(record[name], name, empty_allowed=True) for name in present]
    question = "\n".join(text for text in texts if text.strip())
    if not question:
        raise Misfit("empty_field", f"{' and '.join(map(repr, present))} must not be empty")
    return question


def _history(entry: Entry, record: Record) -> tuple[Message, ...]:
    name = entry.columns.get("history")
    pairs = parsed(record.get(name), name) if name else None
    if not pairs:
        return ()
    if not isinstance(pairs, list):
        raise Misfit("wrong_type", f"{name!r} must be a list of [question, answer] pairs, found {shown(pairs)}")
    return tuple(message for number, pair in enumerate(pairs, 1) for message in _pair(pair, f"{name!r} pair {number}"))


def _pair(pair: Any, where: str) -> tuple[Message, Message]:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise Misfit("wrong_type", f"{where} must be [question, answer], found {shown(pair)}")
    if not all(text.strip() for text in pair):
        raise Misfit("empty_turn", f"{where} must not hold an empty text, found {shown(pair)}")
    return Message("user", pair[0]), Message("assistant", pair[1])
