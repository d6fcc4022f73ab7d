"""The fast way to read a row and the slow one say the same."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.checks.content import Content, content_of
from studio.datasets.checks.quick import quick_reader
from studio.datasets.entry import Entry, describe
from studio.datasets.formats import convert
from studio.datasets.reading import Mark, duplicate_keys
from studio.datasets.reading.json_text import examine_line
from studio.errors import RowError

TEXTS = st.sampled_from(["q", "a", "", " ", " padded\n", "user", "assistant", 'a "quoted": b', "é中\U0001f600", "x: y"])
ODD = st.sampled_from([None, 0, 1.5, True, [], {}, [[]], "text", ["x"], {"a": 1}, 2**70])


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


ROLES = st.sampled_from(["user", "assistant", "system", "tool", "human", "", 1, None])
TURN = st.fixed_dictionaries(
    {"role": ROLES, "content": TEXTS | ODD}, optional={"tool_calls": ODD, "name": TEXTS}
) | st.fixed_dictionaries({"content": TEXTS, "role": ROLES})
GOOD_TURNS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3).map(
    lambda pairs: [turn for asked, answered in pairs for turn in (said("user", asked), said("assistant", answered))]
)
CHATS = st.fixed_dictionaries(
    {"messages": GOOD_TURNS | st.lists(TURN, max_size=4) | ODD}, optional={"system": TEXTS | ODD, "id": ODD}
)
PAIRS = st.fixed_dictionaries(
    {"instruction": TEXTS | ODD, "output": TEXTS | ODD},
    optional={"input": TEXTS | ODD, "system": TEXTS | ODD, "history": ODD, "id": ODD},
)
CHAT, PAIR = (
    describe("a", "a.jsonl", "openai"),
    describe("a", "a.jsonl", columns={"system": "system", "history": "history"}),
)
TEXT = describe("a", "a.jsonl", columns={"prompt": "text", "response": None})
# what a person or a program might do to a line
SPELLINGS = (
    lambda record: json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(),
    lambda record: json.dumps(record).encode(),
    lambda record: json.dumps(record, ensure_ascii=False, separators=(" , ", " : ")).encode(),
    lambda record: json.dumps(record, indent=1).replace("\n", " ").encode() + b"\r",
    lambda record: json.dumps(record).replace('"content"', '"content": "twice", "content"', 1).encode(),
    lambda record: json.dumps(record).replace('{"', '{"id" :1, "', 1).encode(),
    lambda record: json.dumps(record).replace("}", ', "output": "x"}', 1).encode(),
    lambda record: json.dumps(record).replace("q", "\\ud800", 1).encode(),
    lambda record: json.dumps(record).replace('"q"', "NaN", 1).encode(),
    lambda record: json.dumps(record).encode().replace(b"a", b"\xff", 1),
    lambda record: json.dumps(record).encode()[:-1],
    lambda record: json.dumps(record).encode() + b" {}",
)


def slowly(entry: Entry, data: bytes) -> Content | None:
    """What the reader and the canonical value make of a line; None where it is at fault, or names a field twice."""
    try:
        record = examine_line(data, Mark(1, 0, 1))
        return None if duplicate_keys(record) else content_of(convert(entry, 1, record))
    except RowError:
        return None


def agree(entry: Entry, first: dict[str, Any], data: bytes) -> None:
    kind = type(convert(entry, 1, first))
    quick = quick_reader(entry, first, kind)
    assert quick is not None
    content = quick(data)
    if content is not None:
        assert content == slowly(entry, data)


@given(CHATS, st.sampled_from(SPELLINGS), st.sets(st.sampled_from(["system", "id"])))
def test_chats(record: dict[str, Any], spelled: Any, more: set[str]) -> None:
    agree(CHAT, {"messages": [said("user", "q"), said("assistant", "a")], **dict.fromkeys(more)}, spelled(record))


@given(PAIRS, st.sampled_from(SPELLINGS), st.sets(st.sampled_from(["input", "system", "history", "id"])))
def test_pairs(record: dict[str, Any], spelled: Any, more: set[str]) -> None:
    agree(PAIR, {"instruction": "q", "output": "a", **dict.fromkeys(more)}, spelled(record))


@given(st.fixed_dictionaries({"text": TEXTS | ODD}, optional={"id": ODD}), st.sampled_from(SPELLINGS), st.booleans())
def test_plain_text(record: dict[str, Any], spelled: Any, with_id: bool) -> None:
    agree(TEXT, {"text": "q", **({"id": 1} if with_id else {})}, spelled(record))


@pytest.mark.parametrize(
    ("entry", "record", "content"),
    [
        (CHAT, {"messages": [said("user", "q"), said("assistant", "a ")]}, ("ua", ("q", "a "), True)),
        (CHAT, {"messages": [said("system", "s"), said("user", "q: x"), {"content": "a", "role": "assistant"}]},
         ("sua", ("s", "q: x", "a"), False)),
        (PAIR, {"instruction": "q", "input": "more", "output": "a"}, ("ua", ("q\nmore", "a"), False)),
        (PAIR, {"instruction": "q", "input": " ", "output": "a", "history": [], "id": {}}, ("ua", ("q", "a"), False)),
        (TEXT, {"text": "long ago"}, ("x", ("long ago",), False)),
    ],
)  # fmt: skip
def test_usual_rows_are_read_fast(entry: Entry, record: dict[str, Any], content: Content) -> None:
    value = convert(entry, 1, record)
    quick = quick_reader(entry, record, type(value))
    assert quick is not None
    assert quick(orjson.dumps(record)) == content == content_of(value)


def test_shapes_that_are_always_read_slowly() -> None:
    judged = describe("a", "a.jsonl", columns={"kto_tag": "label"})
    record = {"instruction": "q", "output": "a", "label": True}
    assert quick_reader(judged, record, type(convert(judged, 1, record))) is None
    twice = describe("a", "a.jsonl", columns={"prompt": "x", "response": "x"})
    assert quick_reader(twice, ["x"], type(convert(twice, 1, {"x": "q"}))) is None


def test_a_row_nested_too_deeply_is_left_to_the_slow_way() -> None:
    record = {"text": "q", "id": 1}
    quick = quick_reader(TEXT, record, type(convert(TEXT, 1, record)))
    assert quick is not None
    for depth in (101, 5000):
        assert quick(b'{"text": "q", "id": ' + b"[" * depth + b"]" * depth + b"}") is None
