import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.reading import rows
from studio.datasets.writing import PASSES, WRITERS, line_of, write
from studio.errors import DatasetError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), min_size=1, max_size=6)


def back(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in rows(path)]  # type: ignore[misc]


@pytest.mark.parametrize("file_format", ["jsonl", "json"])
@given(records=RECORDS)
def test_json_comes_back_as_it_was(tmp_path_factory: Any, file_format: str, records: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("out") / f"a.{file_format}"
    write(path, file_format, lambda: records)
    assert back(path) == records


def spelled(value: Any) -> Any:
    """`value`, or what it says as JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
@given(records=RECORDS)
def test_tables_hold_every_value_or_its_json(
    tmp_path_factory: Any, file_format: str, records: list[dict[str, Any]]
) -> None:
    records = [{"id": "x", **record} for record in records]
    path = tmp_path_factory.mktemp("out") / f"a.{file_format}"
    write(path, file_format, lambda: records)
    nothing = {None: ""} if file_format == "csv" else {}
    for record, found in zip(records, back(path), strict=True):
        for name, value in found.items():
            wanted = record.get(name)
            assert value == wanted or spelled(value) == wanted or value == nothing.get(wanted if wanted is None else 0)


def test_objects_with_different_keys_get_no_keys_of_others(tmp_path: Path) -> None:
    records = [{"call": {"city": "Bonn"}}, {"call": {"x": 1}}, {"call": None}]
    write(tmp_path / "a.parquet", "parquet", lambda: records)
    assert [record["call"] for record in back(tmp_path / "a.parquet")] == ['{"city":"Bonn"}', '{"x":1}', None]


def test_types_that_only_meet_in_later_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.datasets.writing.BATCH_ROWS", 2)
    records = [
        {"list": [], "number": 1, "odd": "x", "late": None},
        {"list": [], "number": 2, "odd": "y", "late": None},
        {"list": [["a", "b"]], "number": 2.5, "odd": [1], "late": {"k": "v"}},
        {"more": True},
    ]
    write(tmp_path / "a.parquet", "parquet", lambda: records)
    assert back(tmp_path / "a.parquet") == [
        {"list": [], "number": 1.0, "odd": "x", "late": None, "more": None},
        {"list": [], "number": 2.0, "odd": "y", "late": None, "more": None},
        {"list": [["a", "b"]], "number": 2.5, "odd": "[1]", "late": {"k": "v"}, "more": None},
        {"list": None, "number": None, "odd": None, "late": None, "more": True},
    ]


def test_what_no_file_can_hold(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    for record, said in (({"a": deep}, "nested too deeply"), ({"a": "\ud83d"}, "half of a character")):
        with pytest.raises(DatasetError, match=said):
            line_of(record)


def test_formats_and_passes_agree(tmp_path: Path) -> None:
    assert set(PASSES) == set(WRITERS)
    for file_format in WRITERS:
        asked: list[int] = []

        def source(asked: list[int] = asked) -> list[dict[str, str]]:
            asked.append(1)
            return [{"a": "b"}]

        write(tmp_path / file_format, file_format, source)
        assert len(asked) == PASSES[file_format]
    with pytest.raises(DatasetError, match="cannot write 'yaml'"):
        write(tmp_path / "x", "yaml", list)


def test_nothing_is_overwritten(tmp_path: Path, write: Callable[[str, Any], Path]) -> None:
    there = write("a.jsonl", "mine")
    with pytest.raises(FileExistsError):
        WRITERS["jsonl"](there, list)
    assert there.read_text() == "mine"
