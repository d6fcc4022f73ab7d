from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, load
from studio.datasets.entry import describe
from studio.datasets.formats import Text
from studio.datasets.loading import Fault
from studio.errors import DatasetError, DatasetNotFound, RowError

Register = Callable[..., Registry]
GOOD = '{"instruction": "q", "output": "a"}\n'
EMPTY = '{"instruction": "q", "output": ""}\n'


@pytest.fixture
def register(data_dir: Path) -> Register:
    def register_file(name: str, content: str, **described: Any) -> Registry:
        (data_dir / name).write_text(content, encoding="utf-8")
        registry = Registry(data_dir)
        registry.add(describe("it", name, **described))
        return registry

    return register_file


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("identity", "Conversation", 91),
        ("alpaca_en_demo", "Conversation", 999),
        ("alpaca_zh_demo", "Conversation", 1000),
        ("glaive_toolcall_en_demo", "Conversation", 300),
        ("dpo_en_demo", "Preference", 300),
        ("kto_en_demo", "Feedback", 300),
        ("wiki_demo", "Text", 30),
    ],
)
def test_llamafactorys_demo_sets_load_whole(name: str, shape: str, count: int, public_data: Path) -> None:
    shapes = Counter(type(row).__name__ for _, row in load(Registry(public_data), name))
    assert shapes == {shape: count}


def test_rows_come_with_their_numbers(register: Register) -> None:
    registry = register("a.jsonl", GOOD + "\n" + GOOD + GOOD)
    assert [number for number, _ in load(registry, "it")] == [1, 2, 3]
    assert [number for number, _ in load(registry, "it", limit=2)] == [1, 2]
    assert list(load(registry, "it", limit=0)) == []


def test_a_row_at_fault_ends_it(register: Register) -> None:
    rows = load(register("a.jsonl", GOOD + EMPTY + GOOD), "it")
    assert next(rows)[0] == 1
    with pytest.raises(RowError, match="row 2: 'output' must not be empty"):
        next(rows)


def test_faulty_rows_can_be_left_out_but_never_unseen(register: Register) -> None:
    registry = register("a.jsonl", EMPTY + GOOD + EMPTY + GOOD + GOOD)
    faults: list[Fault] = []
    assert [number for number, _ in load(registry, "it", limit=2, leave_out=faults.append)] == [2, 4]
    assert [(fault.row, fault.what) for fault in faults] == [
        (1, "'output' must not be empty"),
        (3, "'output' must not be empty"),
    ]


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", GOOD + "{broken\n" + GOOD), ("a.json", f"[{GOOD}, {{broken, {GOOD}]")]
)
def test_a_row_that_cannot_be_read_always_ends_it(name: str, content: str, register: Register) -> None:
    faults: list[Fault] = []
    with pytest.raises(RowError, match=r"row 2: line \d, column"):
        list(load(register(name, content), "it", leave_out=faults.append))
    assert faults == []


def test_rows_that_are_no_objects_can_be_left_out(register: Register) -> None:
    registry = register("a.jsonl", GOOD + '["list"]\n' + '{"a": ' + "[" * 200 + "]" * 200 + "}\n" + GOOD)
    faults: list[Fault] = []
    assert [number for number, _ in load(registry, "it", leave_out=faults.append)] == [1, 4]
    assert [(fault.row, fault.code) for fault in faults] == [(2, "wrong_type"), (3, "too_deep")]
    assert faults[0].what == "(line 2) must be an object {…}, found a list"


def test_rows_of_another_shape_are_faults(register: Register) -> None:
    registry = register("a.jsonl", '{"text": "once"}\n' + '{"text": "q", "output": "a"}\n', columns={"prompt": "text"})
    faults: list[Fault] = []
    assert list(load(registry, "it", leave_out=faults.append)) == [(1, Text("once"))]
    assert faults[0].what == "is a conversation, while the rows before it are each a text"


def test_num_samples_bounds_it(register: Register) -> None:
    registry = register("a.jsonl", GOOD * 5)
    text = registry.path.read_text().replace('"file_name"', '"num_samples": 3, "file_name"')
    registry.path.write_text(text)
    assert len(list(load(registry, "it"))) == 3
    assert len(list(load(registry, "it", limit=2))) == 2


def test_a_set_that_cannot_be_used_says_why(public_data: Path) -> None:
    with pytest.raises(DatasetError, match="'mllm_demo' cannot be used: it has images"):
        list(load(Registry(public_data), "mllm_demo"))
    with pytest.raises(DatasetNotFound, match="no dataset 'nothing'"):
        list(load(Registry(public_data), "nothing"))
