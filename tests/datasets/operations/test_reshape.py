import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, load, operations
from studio.datasets.formats import SHAPES
from studio.datasets.loading import Fault
from studio.errors import DatasetError
from tests.datasets.operations.conftest import left, put, records, values

CALL = {"name": "add", "arguments": {"a": 1}}
TOOLS = json.dumps([{"name": "add", "parameters": {}}])
SETS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "plain": ([{"instruction": f"q{row}", "input": "", "output": "a"} for row in range(3)], {}),
    "history": (
        [
            {"instruction": "q", "output": "a", "system": "s", "history": [["x", "y"]]},
            {"instruction": "q", "output": "b"},
        ],
        {"columns": {"system": "system", "history": "history"}},
    ),
    "tools": (
        [
            {"conversations": [
                {"from": "human", "value": "1+?"}, {"from": "function_call", "value": json.dumps([CALL, CALL])},
                {"from": "observation", "value": "2"}, {"from": "gpt", "value": "Two."}], "tools": TOOLS},
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
        ],
        {"formatting": "sharegpt", "columns": {"tools": "tools"}},
    ),
    "preferred": (
        [{"instruction": "q", "input": "", "chosen": "a", "rejected": f"b{row}"} for row in range(2)],
        {"ranking": True},
    ),
    "judged": (
        [{"instruction": "q", "output": "a", "kto_tag": row == 0} for row in range(2)],
        {"columns": {"kto_tag": "kto_tag"}},
    ),
    "text": ([{"text": "Once."}, {"text": "Twice."}], {"columns": {"prompt": "text", "response": None}}),
}  # fmt: skip
CAN = {
    "plain": {"alpaca", "sharegpt", "openai", "prompt_completion"},
    "history": {"alpaca", "sharegpt", "openai"},
    "tools": {"sharegpt", "openai"},
    "preferred": {"alpaca", "sharegpt", "openai", "prompt_completion"},
    "judged": {"alpaca", "sharegpt", "openai", "prompt_completion"},
    "text": {"text"},
}


@pytest.fixture
def sets(data_dir: Path) -> Registry:
    registry = Registry(data_dir)
    for name, (rows, reading) in SETS.items():
        put(registry, name, rows, **reading)
    return registry


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SETS)
def test_any_set_in_any_shape_and_file_means_the_same(name: str, shape: str, file_format: str, sets: Registry) -> None:
    if shape not in CAN[name]:
        with pytest.raises(DatasetError, match=f"{name}: row 1: {shape} cannot hold it: "):
            operations.convert(sets, name, shape, file_format)
        assert left(sets) == {f"{each}.jsonl" for each in SETS}
        return
    (entry,) = operations.convert(sets, name, shape, file_format)
    assert entry.file_name == f"{name}-{shape}.{file_format}"
    assert values(sets, entry.name) == values(sets, name)


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("name", SETS)
def test_another_kind_of_file_keeps_every_row_as_it_is(name: str, file_format: str, sets: Registry) -> None:
    (entry,) = operations.convert(sets, name, None, file_format)
    assert entry.file_name == f"{name}-{file_format}.{file_format}"
    assert values(sets, entry.name) == values(sets, name)
    if file_format in ("jsonl", "json"):
        assert records(sets, entry.name) == records(sets, name)


def test_rows_that_do_not_fit_are_counted_where_somebody_does(sets: Registry) -> None:
    left_out: list[Fault] = []
    (entry,) = operations.convert(sets, "tools", "alpaca", leave_out=left_out.append)
    assert [(fault.row, fault.what) for fault in left_out] == [
        (1, "alpaca cannot hold it: it calls tools, which this shape has no place for")
    ]
    assert records(sets, entry.name) == [{"instruction": "hi", "input": "", "output": "ho"}]
    with pytest.raises(DatasetError, match="no row is left"):
        operations.convert(sets, "plain", "text", leave_out=left_out.append)


def test_rows_that_cannot_be_used_are_told(sets: Registry) -> None:
    put(sets, "faulty", [{"instruction": "q", "output": ""}, {"instruction": "q", "output": "a"}])
    with pytest.raises(DatasetError, match="faulty: row 1: 'output' must not be empty"):
        operations.convert(sets, "faulty", "openai")
    left_out: list[Fault] = []
    operations.convert(sets, "faulty", "openai", leave_out=left_out.append)
    assert [(fault.row, fault.code) for fault in left_out] == [(1, "empty_field")]


def test_an_unknown_shape_or_file(sets: Registry) -> None:
    with pytest.raises(DatasetError, match="it must be one of alpaca, sharegpt, openai"):
        operations.convert(sets, "plain", "chatml")
    with pytest.raises(DatasetError, match="it must be one of jsonl, json, csv, parquet"):
        operations.convert(sets, "plain", None, "yaml")
    assert left(sets) == {f"{each}.jsonl" for each in SETS}


def test_sets_that_read_alike_are_merged_as_they_are(sets: Registry) -> None:
    operations.duplicate(sets, "plain")
    (entry,) = operations.merge(sets, ["plain", "plain-copy"])
    assert entry.name == "plain+plain-copy"
    assert entry.origin == {"operation": "merge", "of": ["plain", "plain-copy"]}
    assert records(sets, entry.name) == SETS["plain"][0] * 2


def test_sets_of_different_shapes_become_one(sets: Registry) -> None:
    (entry,) = operations.merge(sets, ["plain", "history", "tools"], output_name="all")
    assert entry.formatting == "openai"
    assert values(sets, "all") == [value for name in ("plain", "history", "tools") for value in values(sets, name)]
    (entry,) = operations.merge(sets, ["plain", "history"], "alpaca", "flat")
    assert entry.formatting == "alpaca"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["plain"], "at least two"),
        (["plain", "preferred"], "preferred has preferences and the sets before it conversations"),
        (["text", "plain"], "plain has conversations and the sets before it texts"),
        (["plain", "absent"], "no dataset 'absent'"),
    ],
)
def test_sets_that_cannot_be_one(names: list[str], said: str, sets: Registry) -> None:
    with pytest.raises(DatasetError, match=said):
        operations.merge(sets, names)
    assert left(sets) == {f"{each}.jsonl" for each in SETS}


@pytest.mark.parametrize(
    "name", ["alpaca_zh_demo", "glaive_toolcall_en_demo", "dpo_en_demo", "kto_en_demo", "wiki_demo"]
)
def test_real_sets_mean_the_same_in_another_shape(name: str, public_data: Path, data_dir: Path) -> None:
    for file in public_data.iterdir():
        shutil.copy(file, data_dir)
    registry = Registry(data_dir)
    shape = "text" if name == "wiki_demo" else "openai"
    (entry,) = operations.convert(registry, name, shape, "parquet")
    left_out: list[Fault] = []
    wanted = [value for _, value in load(registry, name, leave_out=left_out.append)]
    assert left_out == []
    assert values(registry, entry.name) == wanted
