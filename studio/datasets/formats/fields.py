"""One field of a record: its value as the kind that is wanted, or what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson

Record = Mapping[str, Any]
SHOWN_CHARS = 60
_LONG_NUMBER = re.compile(r"\d{19}")


class Misfit(Exception):
    """What is wrong with a record, before its row number is known. `code` names the kind of fault (see checks)."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        super().__init__(what)


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


def parsed(value: Any, name: str | None) -> Any:
    """CSV cells and some exports hold lists as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[[", "[]")):
        try:
            return parse_json(value)
        except ValueError as error:
            raise Misfit("bad_json", f"{name!r} looks like JSON but is damaged: found {shown(value)}") from error
    return value


def read_text(record: Record, name: str) -> str:
    """The text in a field that must have one."""
    if record.get(name) is None:
        raise Misfit("missing_field", missing(name, record))
    return require_text(record[name], name)


def require_text(value: Any, name: str, empty_allowed: bool = False) -> str:
    """`value`, which must be text."""
    if not isinstance(value, str):
        raise Misfit("wrong_type", f"{name!r} must be text, found {shown(value)}")
    if not empty_allowed and not value.strip():
        raise Misfit("empty_field", f"{name!r} must not be empty")
    return value


def fields_of(record: Record) -> str:
    """The names of the first fields, for a message."""
    names = [name[:SHOWN_CHARS] for name in islice(record, 12)]
    return ", ".join([*names, "…"] if len(record) > len(names) else names) or "none"


def missing(name: str, record: Record) -> str:
    """What to say of a field without a value."""
    if name in record:
        return f"{name!r} must not be null"
    return f"has no field {name!r}; its fields are {fields_of(record)}"


def loads(content: Any, name: str) -> Any:
    """What JSON text stands for; anything else as it is."""
    try:
        return parse_json(content) if isinstance(content, str) else content
    except ValueError as error:
        raise Misfit("bad_json", f"{name} must be JSON, found {shown(content)}") from error


def parse_json(text: str) -> Any:
    """What `text` says.

    Raises:
        ValueError: it is no JSON.
    """
    value = orjson.loads(text)
    # it makes floats of integers beyond 64 bits without a word
    return json.loads(text) if _LONG_NUMBER.search(text) else value
