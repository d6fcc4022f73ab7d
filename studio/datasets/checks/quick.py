"""The content of the usual row of a JSON lines file, read several times as fast as by way of its canonical value.

The usual row has the columns of the first one, plain texts, and turns of a role and a text that alternate. A typed
decoder takes such rows and refuses all others, which then go the slow way: it names what is wrong with them, or finds
that they are only unusual. A test holds that both ways agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from studio.datasets.checks.content import Content
from studio.datasets.entry import Entry
from studio.datasets.formats import Conversation, Row, Text
from studio.datasets.reading import ROW_MAX_BYTES

Quick = Callable[[bytes], Content | None]
# the letters of the roles, None where these are unusual, and the texts
_Said = tuple[str | None, tuple[str, ...]]
_NESTED_MAX = 90
_KNOWN_SPELLINGS = 1000
_ALTERNATING = re.compile("s?(ua)+")
_Nothing = Literal["", None]
_NoPairs = Annotated[list[Any], msgspec.Meta(max_length=0)] | None


def quick_reader(entry: Entry, columns: Iterable[str], kind: type[Row]) -> Quick | None:
    """Reads lines like that of a first row with these `columns` and of this `kind`; None for one that is not alike.

    There is no such reader for preferences, judgements, and columns that are read twice.
    """
    if kind is Text:
        return _reader(entry, columns, {"prompt": str}, {}, _text)
    if kind is not Conversation:
        return None
    if entry.formatting == "alpaca":
        optional = {"query": str | None, "history": _NoPairs, "system": _Nothing, "tools": _Nothing}
        return _reader(entry, columns, {"prompt": str, "response": str}, optional, _pair)
    tags = {"role": entry.tags["role_tag"], "text": entry.tags["content_tag"]}
    turn = _struct("Turn", {"role": str, "text": str}, tags)
    needed = {"messages": list[turn]}  # type: ignore[valid-type]
    return _reader(entry, columns, needed, {"system": _Nothing, "tools": _Nothing}, _chat(entry.tags))


def _reader(
    entry: Entry,
    columns: Iterable[str],
    needed: Mapping[str, Any],
    optional: Mapping[str, Any],
    say: Callable[[Any], _Said],
) -> Quick | None:
    """A reader for lines with values of these types in the columns that have these roles."""
    types = {**needed, **optional}
    roles = {column: role for role, column in entry.columns.items() if role in types}
    names = {roles.get(column, f"unused{place}"): column for place, column in enumerate(columns)}
    if len(roles) < sum(role in types for role in entry.columns) or not needed.keys() <= names.keys():
        return None
    line = _struct("Line", {name: types.get(name, Any) for name in names}, names, types.keys() - names.keys())
    decode = msgspec.json.Decoder(line).decode
    fields_per_text = 2 if "messages" in needed else 0
    is_open = len(names) > len(roles)  # the other columns may hold anything

    def read(data: bytes) -> Content | None:
        if len(data) > ROW_MAX_BYTES or (is_open and data.count(b"[") > _NESTED_MAX):
            return None
        try:
            letters, texts = say(decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        stripped = tuple(map(str.strip, texts))
        fields = len(names) + fields_per_text * len(texts)
        if letters is None or not all(stripped) or not _names_once(data, fields):
            return None
        return letters, texts, stripped != texts

    return read


def _names_once(data: bytes, fields: int) -> bool:
    """Whether so many fields are all that `data` names: then no object in it has one twice."""
    # texts with colons in them cost a second look
    return data.count(b":") == fields or (data.count(b'":') == fields and b'" :' not in data)


def _struct(
    name: str, types: Mapping[str, Any], columns: Mapping[str, str], absent: Iterable[str] = ()
) -> type[msgspec.Struct]:
    """A type for objects with exactly these fields: attributes of these types, each read from its column."""
    rename, namespace = dict(columns), dict.fromkeys(absent)
    return msgspec.defstruct(
        name, list(types.items()), rename=rename, namespace=namespace, forbid_unknown_fields=True, gc=False
    )


def _text(line: Any) -> _Said:
    return "x", (line.prompt,)


def _pair(line: Any) -> _Said:
    asked, more = line.prompt, line.query
    if not asked.strip():
        return None, ()  # what is asked may stand in the other column
    return "ua", (f"{asked}\n{more}" if more and more.strip() else asked, line.response)


def _chat(tags: Mapping[str, str]) -> Callable[[Any], _Said]:
    spell = _speller(tags)

    def say(line: Any) -> _Said:
        turns = line.messages
        return spell(tuple([turn.role for turn in turns])), tuple([turn.text for turn in turns])

    return say


def _speller(tags: Mapping[str, str]) -> Callable[[tuple[str, ...]], str | None]:
    """Gives the letters for names of roles, where a system turn may come first and then two take turns."""
    letters = {tags["system_tag"]: "s", tags["user_tag"]: "u", tags["assistant_tag"]: "a"}
    for tag in ("observation_tag", "function_tag"):
        letters.pop(tags[tag], None)
    if len(letters) < 3:
        letters = {}  # two roles share a name: let the slow way tell them apart
    known: dict[tuple[str, ...], str] = {}

    def spell(names: tuple[str, ...]) -> str | None:
        spelled = known.get(names)
        if spelled is None:
            spelled = "".join([letters.get(name, "?") for name in names])
            if not _ALTERNATING.fullmatch(spelled):
                return None
            if len(known) < _KNOWN_SPELLINGS:
                known[names] = spelled
        return spelled

    return spell
