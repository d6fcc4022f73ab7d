import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, load
from studio.datasets.checks import REPAIRS, check, repair
from studio.datasets.entry import Entry, describe
from studio.datasets.formats import Conversation
from studio.errors import Cancelled, DatasetError

Record = dict[str, Any]
Put = Callable[..., Registry]
ALPACA = describe("set", "set.jsonl", columns={"system": "system", "history": "history"})
CHAT = describe("set", "set.jsonl", "openai")
RANKED = describe("set", "set.jsonl", "openai", ranking=True)


@pytest.fixture
def put(data_dir: Path) -> Put:
    """Register a file as `set`."""

    def put_file(entry: Entry, rows: list[Record] | str) -> Registry:
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (data_dir / entry.file_name).write_text(text, encoding="utf-8")
        registry = Registry(data_dir)
        registry.add(entry)
        return registry

    return put_file


def mended(registry: Registry, *repairs: str) -> tuple[list[Record], dict[str, int]]:
    """The records of the new set, and what was counted."""
    entry, counts = repair(registry, "set", repairs)
    return [json.loads(line) for line in registry.file(entry.name).read_text("utf-8").splitlines()], counts


def said(role: str, text: str) -> Record:
    return {"role": role, "content": text}


def pair(answer: str, question: str = "q") -> Record:
    return {"instruction": question, "output": answer}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("fix_mojibake", "cafÃ© doesnâ€™t", "café doesn't"),
        ("strip_control", "a\x07b\x85c\td\n", "abc\td\n"),
        ("strip_invisible", "a\u200bb\ufeff\u202ec", "abc"),
        ("trim_answers", "  a b \n", "a b"),
    ],
)
def test_texts_are_mended(name: str, before: str, after: str, put: Put) -> None:
    rows, counts = mended(put(ALPACA, [pair("fine"), {**pair(before), "id": 7}]), name)
    if name == "fix_mojibake":
        after = after.replace("'", "\u2019")
    assert rows == [pair("fine"), {**pair(after), "id": 7}]
    assert counts == {name: 1}


def test_texts_are_mended_wherever_they_stand(put: Put) -> None:
    bad, good = "a\x00b", "ab"
    row = {**pair(bad, bad), "input": bad, "system": bad, "history": [[bad, bad]], "other": bad}
    rows, _ = mended(put(ALPACA, [row]), "strip_control")
    assert rows == [{**pair(good, good), "input": good, "system": good, "history": [[good, good]], "other": bad}]


def test_turns_and_their_parts_are_mended(put: Put) -> None:
    parts = {"role": "assistant", "content": [{"type": "text", "text": " b\x00 "}], "note": "\x00"}
    registry = put(CHAT, [{"messages": [said("user", " a\x00 "), parts]}])
    rows, counts = mended(registry, "strip_control", "trim_answers")
    assert rows == [
        {"messages": [said("user", " a "), {**parts, "content": [{"type": "text", "text": "b"}]}]},
    ]
    assert counts == {"strip_control": 1, "trim_answers": 1}


def test_turns_that_are_spelled_as_text_are_mended(put: Put) -> None:
    entry = describe("set", "set.csv", "openai")
    turns = json.dumps([said("user", "a\u0000"), said("assistant", "b")]).replace('"', '""')
    rows, counts = mended(put(entry, f'messages,id\n"{turns}",1\n"[]",2\n'), "strip_control")
    assert rows == [{"messages": [said("user", "a"), said("assistant", "b")], "id": "1"}, {"messages": "[]", "id": "2"}]
    assert counts == {"strip_control": 1}


def test_answers_of_preferences_are_trimmed(put: Put) -> None:
    row = {"messages": [said("user", " q ")], "chosen": said("assistant", " a "), "rejected": " b "}
    rows, _ = mended(put(RANKED, [row]), "trim_answers")
    assert rows == [{**row, "chosen": said("assistant", "a"), "rejected": "b"}]


def test_turns_of_one_speaker_are_merged(put: Put) -> None:
    call = {"role": "assistant", "content": "c", "tool_calls": [{"name": "f", "arguments": {}}]}
    turns = [said("user", "a"), said("user", "b"), said("assistant", "c"), said("assistant", "d")]
    rows, counts = mended(put(CHAT, [{"messages": turns}, {"messages": [turns[0], call, call]}]), "merge_turns")
    assert rows[0] == {"messages": [said("user", "a\n\nb"), said("assistant", "c\n\nd")]}
    assert rows[1] == {"messages": [turns[0], call, call]}
    assert counts == {"merge_turns": 1}


def test_turns_after_the_last_answer_are_dropped(put: Put) -> None:
    answered = [said("user", "a"), said("assistant", "b")]
    registry = put(CHAT, [{"messages": [*answered, said("user", "c")]}, {"messages": [said("user", "a")]}])
    rows, counts = mended(registry, "drop_open_turns")
    assert rows == [{"messages": answered}, {"messages": [said("user", "a")]}]
    assert counts == {"drop_open_turns": 1}


def test_the_prompt_of_a_preference_ends_openly(put: Put) -> None:
    row = {"messages": [said("user", "a"), said("assistant", "b"), said("user", "q")], "chosen": "c", "rejected": "d"}
    assert mended(put(RANKED, [row]), "drop_open_turns", "merge_turns")[0] == [row]


@pytest.mark.parametrize(
    ("name", "bad"), [("drop_special_tokens", "a <|im_end|>"), ("drop_damaged", "\ufffd"), ("drop_faulty", " ")]
)
def test_rows_are_left_out(name: str, bad: str, put: Put) -> None:
    rows, counts = mended(put(ALPACA, [pair("a"), pair(bad), pair("b")]), name)
    assert rows == [pair("a"), pair("b")]
    assert counts == {name: 1}


def test_rows_that_cannot_be_read_are_left_out_or_end_it(put: Put) -> None:
    registry = put(ALPACA, f"{json.dumps(pair('a'))}\n{{broken\n{json.dumps(pair('b'))}\n")
    with pytest.raises(DatasetError, match="row 2"):
        repair(registry, "set", ["trim_answers"])
    rows, counts = mended(registry, "drop_faulty")
    assert (rows, counts) == ([pair("a"), pair("b")], {"drop_faulty": 1})


def test_rows_of_another_shape_are_left_out(put: Put) -> None:
    entry = describe("set", "set.jsonl", columns={"prompt": "text"})
    rows, _ = mended(put(entry, [{"text": "long ago"}, {"text": "q", "output": "a"}]), "drop_faulty")
    assert rows == [{"text": "long ago"}]


def test_what_comes_after_a_broken_list_is_not_lost_silently(put: Put, data_dir: Path) -> None:
    registry = put(describe("set", "set.json"), f"[{json.dumps(pair('a'))}, {{broken")
    with pytest.raises(DatasetError, match="row 2"):
        repair(registry, "set", ["drop_faulty"])
    assert registry.names() == ["set"]


def test_repetitions_are_left_out_after_the_texts_are_mended(put: Put) -> None:
    registry = put(ALPACA, [pair("a"), pair("b"), {**pair(" a "), "id": 2}, pair("a")])
    rows, counts = mended(registry, "drop_duplicates", "trim_answers")
    assert rows == [pair("a"), pair("b")]
    assert counts == {"drop_duplicates": 2, "trim_answers": 1}


def test_near_repetitions_are_left_out(put: Put) -> None:
    text = " ".join(f"On day {number} the seed grew {number * number} leaves." for number in range(40))
    registry = put(ALPACA, [pair(text), pair("other"), pair(text + "!"), pair(text)])
    rows, counts = mended(registry, "drop_near_duplicates", "drop_duplicates")
    assert rows == [pair(text), pair("other")]
    assert counts == {"drop_near_duplicates": 1, "drop_duplicates": 1}


def test_of_doubled_fields_the_last_stays(put: Put) -> None:
    line = '{"instruction": "q", "output": "a", "output": "b"}\n'
    registry = put(ALPACA, line + json.dumps(pair("c")) + "\n")
    rows, counts = mended(registry, "keep_last_key")
    assert (rows, counts) == ([pair("b"), pair("c")], {"keep_last_key": 1})


def test_the_new_set_is_read_as_the_old_one_and_the_old_one_stays(put: Put, data_dir: Path) -> None:
    entry = describe("set", "set.jsonl", columns={"prompt": "frage", "response": "antwort"})
    registry = put(entry, [{"frage": "q", "antwort": " a "}])
    digest = hashlib.sha256((data_dir / "set.jsonl").read_bytes()).hexdigest()
    made, _ = repair(registry, "set", ["trim_answers"], "better")
    assert made.name == "better"
    assert made.origin == {"operation": "repair", "of": ["set"], "trim_answers": 1}
    ((_, value),) = load(registry, "better")
    assert isinstance(value, Conversation)
    assert [message.content for message in value.messages] == ["q", "a"]
    assert hashlib.sha256((data_dir / "set.jsonl").read_bytes()).hexdigest() == digest
    assert repair(registry, "set", ["trim_answers"], "better")[0].name == "better-2"


@pytest.mark.parametrize("name", [name for name in REPAIRS if name != "drop_near_duplicates"])
def test_a_repaired_set_has_nothing_left_to_repair_so(name: str, put: Put) -> None:
    row = '{"messages": [{"role": "user", "content": "q"}, {"role": "user", "content": "cafÃ©\\u0000\\u200b"}, '
    row += '{"role": "assistant", "content": " a <s> \\ufffd", "content": " b <s> \\ufffd"}, '
    row += '{"role": "user", "content": "r"}], "id": 1}\n'
    fine = json.dumps({"messages": [said("user", "q"), said("assistant", "a")]}) + "\n"
    registry = put(CHAT, fine + row + fine)
    done, counts = repair(registry, "set", [name])
    report = check(registry.file(done.name), done)
    assert counts[name] == 1
    left = {finding.repair for finding in report.findings if finding.code not in ("role_order", "no_answer")}
    assert name not in left


@pytest.mark.parametrize(
    ("repairs", "said_"),
    [
        (["mend_all"], "there is no repair mend_all; there are fix_mojibake"),
        (["drop_special_tokens"], "no row of 'set' would be left"),
    ],
)
def test_what_is_refused_leaves_nothing(repairs: list[str], said_: str, put: Put, data_dir: Path) -> None:
    registry = put(ALPACA, [pair("</s>")])
    with pytest.raises(DatasetError, match=said_):
        repair(registry, "set", repairs)
    assert_nothing_new(registry, data_dir)


@pytest.mark.parametrize("repairs", [["trim_answers"], ["drop_duplicates"], ["drop_near_duplicates"]])
def test_a_stopped_repair_leaves_nothing(
    repairs: list[str], put: Put, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.datasets.pace.TOLD_S", 0)
    registry = put(ALPACA, [pair(f"a{number}") for number in range(100)])
    told: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        repair(registry, "set", repairs, progress=lambda *done: told.append(done), cancelled=lambda: len(told) > 20)
    assert_nothing_new(registry, data_dir)


def assert_nothing_new(registry: Registry, data_dir: Path) -> None:
    assert registry.names() == ["set"]
    assert {path.name for path in data_dir.rglob("*") if path.is_file() and ".lock" not in path.name} == {
        "set.jsonl", "dataset_info.json",
    }  # fmt: skip
