import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.entry import COLUMNS, TAGS, Entry, describe, dump, parse
from studio.datasets.registry import Registry
from studio.errors import DatasetError, DatasetNotFound

ODD_REGISTRY = """{
    "first":   {"file_name": "a.json", "my_note": [1,   2]},

    "second": {
\t"file_name": "b.jsonl", "formatting": "sharegpt"
    },
    "第三": {"hf_hub_url": "someone/else"}
}
"""

SPECS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@pytest.fixture
def odd(data_dir: Path) -> Registry:
    (data_dir / "dataset_info.json").write_text(ODD_REGISTRY, encoding="utf-8")
    return Registry(data_dir)


def entry_of(spec: Any, data_dir: Path) -> Entry:
    return parse("it", spec, data_dir)


def test_all_entries_of_llamafactory_load(public_data: Path) -> None:
    entries = Registry(public_data).entries()
    assert len(entries) == 104
    notes = {entry.name: entry.note for entry in entries}
    assert [name for name, note in notes.items() if not note] == [
        "identity", "alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_en_demo", "dpo_en_demo", "kto_en_demo",
        "wiki_demo",
    ]  # fmt: skip
    assert "images" in notes["mllm_demo"]
    assert "Hugging Face hub (llamafactory/alpaca_en)" in notes["alpaca_en"]
    assert "ModelScope (deepctrl/deepctrl-sft-data)" in notes["deepctrl"]
    assert "c4_demo.jsonl is not in" in notes["c4_demo"]


def test_partial_columns_and_tags_keep_the_documented_defaults(data_dir: Path) -> None:
    spec = {"file_name": "x.json", "columns": {"prompt": "question"}, "tags": {"user_tag": "user"}}
    entry = entry_of(spec, data_dir)
    assert entry.columns == {**COLUMNS, "prompt": "question"}
    assert entry.tags == {**TAGS, "user_tag": "user"}


def test_a_default_never_takes_a_column_that_has_a_role(data_dir: Path) -> None:
    entry = entry_of({"file_name": "x.json", "columns": {"prompt": "input"}}, data_dir)
    assert entry.columns["prompt"] == "input"
    assert "query" not in entry.columns


def test_the_simple_form_is_read(data_dir: Path) -> None:
    spec = {"path": "x.csv", "instruction_column": "q", "input_column": None, "output_column": "a"}
    entry = entry_of(spec, data_dir)
    assert entry.file_name == "x.csv"
    assert (entry.columns["prompt"], entry.columns["response"]) == ("q", "a")
    assert "query" not in entry.columns


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ([], "must be an object"),
        ({"file_name": 7}, "file_name must be text, found 7"),
        ({"file_name": "x.json", "formatting": "chatml"}, "alpaca, sharegpt, openai"),
        ({"file_name": "x.json", "columns": ["prompt"]}, "columns must be an object"),
        ({"file_name": "x.json", "columns": {"promt": "x"}}, "columns.promt is unknown"),
        ({"file_name": "x.json", "columns": {"prompt": 3}}, "columns.prompt must be a name"),
        ({"file_name": "x.json", "formatting": "openai", "columns": {"messages": None}}, "columns.messages"),
        ({"file_name": "x.json", "num_samples": 0}, "whole number from 1"),
        ({"file_name": "../x.json"}, "plain file name"),
        ({"file_name": "/etc/passwd"}, "plain file name"),
        ({"file_name": "x.json"}, "upload it there"),
        ({"script_url": "x.py"}, "never run"),
        ({}, "add file_name"),
    ],
)
def test_an_entry_that_cannot_be_used_says_why(spec: Any, said: str, data_dir: Path) -> None:
    assert said in entry_of(spec, data_dir).note


def test_one_bad_entry_leaves_the_others(data_dir: Path) -> None:
    (data_dir / "good.json").write_text("[]")
    (data_dir / "dataset_info.json").write_text('{"bad": 3, "good": {"file_name": "good.json"}}')
    assert [bool(entry.note) for entry in Registry(data_dir).entries()] == [True, False]
    with pytest.raises(DatasetError, match="'bad' cannot be used"):
        Registry(data_dir).file("bad")


def test_adding_changes_nothing_else(odd: Registry) -> None:
    odd.add(describe("new", "n.csv", columns={"prompt": "q", "query": None, "response": "a"}))
    text = odd.path.read_text(encoding="utf-8")
    assert text.startswith(ODD_REGISTRY[: ODD_REGISTRY.rindex("}\n}") + 1])
    assert odd.names() == ["first", "second", "第三", "new"]
    assert odd.entry("new").columns["response"] == "a"
    assert "query" not in odd.entry("new").columns


@pytest.mark.parametrize("name", ["first", "second", "第三"])
def test_removing_changes_nothing_else(name: str, odd: Registry) -> None:
    odd.remove(name)
    kept = {key: value for key, value in json.loads(ODD_REGISTRY).items() if key != name}
    text = odd.path.read_text(encoding="utf-8")
    assert json.loads(text) == kept
    if name != "first":
        assert '"first":   {"file_name": "a.json", "my_note": [1,   2]}' in text


def test_a_name_that_stands_twice_goes_completely(data_dir: Path) -> None:
    (data_dir / "dataset_info.json").write_text('{"a": {}, "b": {"file_name": "1"}, "c": {}, "b": {}, "b": {}}')
    Registry(data_dir).remove("b")
    assert Registry(data_dir).names() == ["a", "c"]


@given(SPECS, st.sampled_from([None, 0, 2, "\t"]))
def test_any_registry_survives_adding_and_removing(tmp_path_factory: Any, specs: dict[str, Any], indent: Any) -> None:
    registry = Registry(tmp_path_factory.mktemp("data"))
    registry.path.write_text(json.dumps(specs, indent=indent), encoding="utf-8")
    name = "new"
    while name in specs:
        name += "!"
    added = registry.add(describe(name, "n.json"))
    assert json.loads(registry.path.read_text()) == {**specs, name: dump(added)}
    registry.remove(name)
    assert json.loads(registry.path.read_text()) == specs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "a": {},\n "b": {"file_name" "x"}\n}', "line 3, column 20"),
        ('{"a": {}', "line 1, column 9"),
        ("", "line 1, column 1"),
        ("[]", "Expecting '{'"),
        ('{"a": {},}', "name in double quotes"),
        ('{"a": {}} trailing', "Extra text"),
        ("[" * 100_000, "Expecting '{'"),
        ('{"a":' + "[" * 100_000, "nested too deeply"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_a_damaged_registry_is_reported_and_left_alone(text: str | bytes, said: str, data_dir: Path) -> None:
    registry = Registry(data_dir)
    damaged = text.encode() if isinstance(text, str) else text
    registry.path.write_bytes(damaged)
    for action in (registry.names, lambda: registry.add(describe("n", "n.json")), lambda: registry.remove("a")):
        with pytest.raises(DatasetError, match=said):
            action()
    assert registry.path.read_bytes() == damaged


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":, \nab1', max_size=60).map(str.encode))
def test_no_registry_text_escapes_as_a_traceback(tmp_path_factory: Any, content: bytes) -> None:
    registry = Registry(tmp_path_factory.mktemp("data"))
    registry.path.write_bytes(content)
    with suppress(DatasetError):
        registry.entries()


def test_no_registry_yet_is_an_empty_one(data_dir: Path) -> None:
    assert Registry(data_dir).entries() == []
    with pytest.raises(DatasetNotFound, match="none yet"):
        Registry(data_dir).entry("x")
    Registry(data_dir).add(describe("x", "x.json"))
    assert Registry(data_dir).names() == ["x"]


def test_a_taken_name_is_refused_or_numbered(odd: Registry) -> None:
    with pytest.raises(DatasetError, match="already a dataset 'first'"):
        odd.add(describe("first", "x.json"))
    assert odd.add(describe("first", "x.json"), numbered=True).name == "first-2"
    assert odd.add(describe("first", "x.json"), numbered=True).name == "first-3"


def test_replacing_changes_one_entry_and_keeps_what_is_unknown_there(odd: Registry) -> None:
    (odd.data_dir / "a.json").write_text("[]")
    entry = odd.entry("first")
    odd.replace(replace(entry, columns={**entry.columns, "prompt": "q"}, mapped=frozenset({"prompt"})))
    assert json.loads(odd.path.read_text(encoding="utf-8")) == {
        **json.loads(ODD_REGISTRY),
        "first": {"my_note": [1, 2], "file_name": "a.json", "columns": {"prompt": "q"}},
    }
    assert odd.path.read_text(encoding="utf-8").endswith(ODD_REGISTRY[ODD_REGISTRY.index('"second"') :])
    assert odd.entry("first").columns["prompt"] == "q"
    with pytest.raises(DatasetNotFound):
        odd.replace(describe("absent", "x.json"))


def test_several_entries_are_added_in_one_step_or_not_at_all(odd: Registry) -> None:
    added = odd.add_all([describe("first", "x.json"), describe("first", "y.json"), describe("new", "z.json")], True)
    assert [entry.name for entry in added] == ["first-2", "first-3", "new"]
    before = odd.path.read_bytes()
    with pytest.raises(DatasetError, match="already a dataset 'new'"):
        odd.add_all([describe("other", "x.json"), describe("new", "y.json")])
    assert odd.path.read_bytes() == before


EVERY_KEY = {
    "hf_hub_url": "a/b", "ms_hub_url": "c/d", "file_name": "sub", "subset": "en", "split": "test", "folder": "part",
    "num_samples": 7, "ranking": True, "formatting": "sharegpt", "columns": {"messages": "chat"},
    "tags": {"user_tag": "user"}, "origin": {"operation": "x"},
}  # fmt: skip


def test_every_documented_key_is_read_and_written(data_dir: Path) -> None:
    (data_dir / "sub").mkdir()
    entry = entry_of(EVERY_KEY, data_dir)
    assert (entry.hub, entry.hub_id, entry.file_name, entry.note, entry.remote) == ("hf", "a/b", "sub", "", False)
    assert (entry.subset, entry.split, entry.folder, entry.num_samples) == ("en", "test", "part", 7)
    assert entry.columns["chosen"] == "chosen"
    assert entry_of(dump(entry), data_dir) == entry
    assert dump(entry_of({"om_hub_url": "a/b"}, data_dir)) == {"om_hub_url": "a/b"}


def test_a_folder_is_removed_and_restored(odd: Registry) -> None:
    (odd.data_dir / "many").mkdir()
    (odd.data_dir / "many" / "a.json").write_text("[1]")
    odd.add(describe("many", "many"))
    trash_id = odd.remove("many")
    assert [(item.name, item.bytes) for item in odd.trashed()] == [("many", 3)]
    assert odd.restore(trash_id).note == ""
    assert (odd.data_dir / "many" / "a.json").read_text() == "[1]"


WRITER = """
import sys
from contextlib import suppress
from pathlib import Path
from studio.datasets.entry import describe
from studio.datasets.registry import Registry
registry = Registry(Path(sys.argv[1]))
for number in range(40):
    registry.add(describe(f"{sys.argv[2]}-{number}", "x.json"))
    registry.rewrite("shared", lambda spec: {**spec, sys.argv[2]: spec.get(sys.argv[2], 0) + 1})
    if number % 2:
        registry.remove(f"{sys.argv[2]}-{number}")
"""


def test_writers_in_several_processes_lose_nothing(odd: Registry) -> None:
    odd.add(describe("shared", "x.json"))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(odd.data_dir), name], stderr=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    expected = {f"{name}-{number}" for name in "abc" for number in range(0, 40, 2)}
    assert set(odd.names()) == expected | {"first", "second", "第三", "shared"}
    assert json.loads(odd.path.read_text(encoding="utf-8"))["shared"] == {
        "file_name": "x.json", "a": 40, "b": 40, "c": 40,
    }  # fmt: skip


def test_removing_moves_the_file_and_restoring_brings_all_back(odd: Registry) -> None:
    (odd.data_dir / "b.jsonl").write_text("kept")
    spec = json.loads(ODD_REGISTRY)["second"]
    trash_id = odd.remove("second")
    assert not (odd.data_dir / "b.jsonl").exists()
    assert [(item.name, item.bytes) for item in odd.trashed()] == [("second", 4)]
    assert odd.restore(trash_id).note == ""
    assert (odd.data_dir / "b.jsonl").read_text() == "kept"
    assert json.loads(odd.path.read_text(encoding="utf-8"))["second"] == spec
    assert odd.trashed() == []


def test_a_file_that_another_entry_uses_stays(odd: Registry) -> None:
    (odd.data_dir / "a.json").write_text("[]")
    odd.add(describe("again", "a.json"))
    trash_id = odd.remove("first")
    assert (odd.data_dir / "a.json").exists()
    assert odd.restore(trash_id).name == "first"


def test_a_file_outside_the_folder_is_never_moved(odd: Registry, tmp_path: Path) -> None:
    outside = tmp_path / "mine.json"
    outside.write_text("[]")
    odd.add(Entry("out", "../mine.json"))
    odd.remove("out")
    assert outside.exists()


def test_restoring_never_overwrites(odd: Registry) -> None:
    (odd.data_dir / "a.json").write_text("old")
    trash_id = odd.remove("first")
    (odd.data_dir / "a.json").write_text("new")
    with pytest.raises(DatasetError, match=r"a\.json exists again"):
        odd.restore(trash_id)
    assert (odd.data_dir / "a.json").read_text() == "new"
    with pytest.raises(DatasetNotFound):
        odd.restore("nothing")


def test_dump_and_parse_agree(data_dir: Path) -> None:
    (data_dir / "f.json").write_text("[]")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    for entry in (
        describe("it", "f.json"),
        describe("it", "f.json", columns={"prompt": "input", "response": "output"}),
        describe("it", "f.json", columns={"prompt": "text", "response": None}),
        describe("it", "f.json", "sharegpt", {"messages": "chat", "tools": "tools"}, tags),
        describe("it", "f.json", "openai", {"messages": None, "chosen": "c", "rejected": "r"}, ranking=True),
    ):
        again = entry_of(dump(entry), data_dir)
        assert (again.columns, again.tags, again.formatting, again.ranking) == (
            entry.columns, entry.tags, entry.formatting, entry.ranking,
        )  # fmt: skip


def test_a_folder_that_cannot_be_written_to_is_told_in_words(data_dir: Path) -> None:
    (data_dir / ".dataset_info.json.lock").mkdir(parents=True)
    with pytest.raises(DatasetError, match="could not be changed: Is a directory"):
        Registry(data_dir).add(describe("a", "a.jsonl"))
