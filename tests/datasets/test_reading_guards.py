"""What hostile and damaged files do: no bomb goes off, and a fault costs no more than its own row."""

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.datasets.reading import (
    BEGIN,
    Extent,
    Unpassable,
    duplicate_keys,
    excerpt,
    lines,
    marks,
    packing,
    rows,
)
from studio.errors import RowError, UploadError

Write = Callable[[str, Any], Path]
LONG = b'{"a": "' + b"x" * 1_000_000 + b'"}\n'


def outcomes(path: Path) -> list[Any]:
    """Records as they are, faults as their sentences."""
    return [record if isinstance(record, dict) else str(record) for _, record in rows(path)]


# --- bombs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_text_that_unpacks_to_hundreds_of_times_its_size_is_refused(
    suffix: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "RATIO_FROM_BYTES", 32 << 20)
    text = LONG * 40
    packed = gzip.compress(text) if suffix == ".gz" else pa.compress(text, "zstd", asbytes=True)
    path = write(f"a.jsonl{suffix}", packed)
    with pytest.raises(UploadError, match="unpacks to more than 250 times its size, the limit"):
        list(rows(path))
    with pytest.raises(UploadError, match="unpacks to more than 250 times its size, the limit"):
        list(marks(path))


def test_a_repetitive_file_of_usual_size_is_no_bomb(write: Write) -> None:
    assert len(outcomes(write("a.jsonl.gz", gzip.compress(LONG * 20)))) == 20


def test_no_file_unpacks_to_more_than_the_limit(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "UNPACKED_MAX_BYTES", 2 << 30)
    with pytest.raises(UploadError, match="unpacks to more than 2 GB, the limit"):
        packing.check_unpacked("a.jsonl.gz", 1 << 30, (2 << 30) + 1)
    monkeypatch.setattr(packing, "UNPACKED_MAX_BYTES", 3_000_000)
    with pytest.raises(UploadError, match="the limit"):
        list(rows(write("a.jsonl.gz", gzip.compress(LONG * 5))))


def test_a_workbook_that_unpacks_to_hundreds_of_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/sharedStrings.xml", b" " * (257 << 20))
    with pytest.raises(UploadError, match="unpacks to more than 25"):
        list(rows(path))


def test_parquet_that_unpacks_to_hundreds_of_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "RATIO_FROM_BYTES", 1 << 20)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x" * 100_000] * 50}), path, use_dictionary=False, compression="zstd")
    with pytest.raises(UploadError, match="unpacks to more than 250 times its size"):
        list(rows(path))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_rows_that_take_no_bytes_are_not_counted_forever(name: str, tmp_path: Path) -> None:
    table, path = pa.table({"a": pa.nulls(20_000_000)}), tmp_path / name
    if name == "a.parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(UploadError, match="says that it has 20000000 rows, too many for its size"):
        list(marks(path))


# --- lines ------------------------------------------------------------------------------------------------------


def test_a_line_of_50_mb_costs_only_itself(write: Write) -> None:
    path = write("a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * (50 << 20) + b'"}\n{"a": 3}\n')
    assert outcomes(path) == [{"a": 1}, "row 2: (line 2) is longer than 16 MB: split it", {"a": 3}]
    *_, end = marks(path)
    assert (end.row, end.offset, end.line) == (4, path.stat().st_size, 4)


def test_a_line_in_another_encoding_costs_only_itself(write: Write) -> None:
    good, bad, after = outcomes(write("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n{"a": 3}'))
    assert (good, after) == ({"a": 1}, {"a": 3})
    assert "(line 2) is not UTF-8 (byte 0xe9)" in bad


@given(
    st.lists(st.sampled_from([b"", b" ", b"\r", b'{"a": 1}', b'{"a": "xxxxxxxxxxxxx"}', b"x" * 70])), st.integers(1, 50)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_lines_are_the_same_through_any_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: list[bytes], block_bytes: int
) -> None:
    monkeypatch.setattr(lines, "ROW_MAX_BYTES", 60)
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n".join(content))
    wanted = [(number, line[:61]) for number, line in enumerate(content, 1) if line.strip()]
    monkeypatch.setattr(lines, "MARK_BYTES", block_bytes)
    read = list(lines.split_lines(path, BEGIN))
    assert [(mark.line, line[:61]) for mark, line in read] == wanted
    assert [mark.row for mark, _ in read] == list(range(1, len(wanted) + 1))
    *starts, end = marks(path)
    assert end.row == len(wanted) + 1
    for start in (*starts, *(mark for mark, _ in read)):
        again = lines.split_lines(path, start)
        assert [(mark, line[:61]) for mark, line in again] == [
            (mark, line[:61]) for mark, line in read[start.row - 1 :]
        ]


# --- JSON -------------------------------------------------------------------------------------------------------

TWICE = [
    ('{"a": 1, "a": 2}', {"a": 2}, ("a",)),
    ('{"a" : 1, "b": "\\"b\\":", "a" : "x"}', {"a": "x", "b": '"b":'}, ("a",)),
    ('{"a": [{"b": 1, "b": 2, "c": 3, "c": 4}]}', {"a": [{"b": 2, "c": 4}]}, ("b", "c")),
    ('{"a": {"b": 1}, "c": {"b": "\\\\"}}', {"a": {"b": 1}, "c": {"b": "\\"}}, ()),
    ('{"a": "\\u0022", "b": "{\\"x\\": 1, \\"x\\": 2}"}', {"a": '"', "b": '{"x": 1, "x": 2}'}, ()),
    ('{"a": 123456789012345678901234567890, "a": 1}', {"a": 1}, ("a",)),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(("text", "record", "twice"), TWICE)
def test_fields_named_twice_are_noted(name: str, text: str, record: Any, twice: tuple[str, ...], write: Write) -> None:
    path = write(name, f"[{text}]" if name == "a.json" else text + "\n")
    ((_, read),) = rows(path, thorough=True)
    assert (read, duplicate_keys(read)) == (record, twice)


@given(
    st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.lists(st.text(max_size=3), max_size=2), max_size=4)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_field_is_noted_that_was_named_once(write: Write, record: dict[str, Any]) -> None:
    ((_, read),) = rows(write("a.jsonl", [record]), thorough=True)
    assert (read, duplicate_keys(read)) == (record, ())


@pytest.mark.parametrize("opened", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("levels", [101, 300, 2000, 100_000])
def test_nesting_is_an_error_of_its_row_in_a_line(opened: str, levels: int, write: Write) -> None:
    closed = "".join({"[": "]", "{": "}"}[each] for each in reversed(opened) if each in "[{")
    path = write("a.jsonl", '{"a": ' + opened * levels + "1" + closed * levels + '}\n{"a": 2}\n')
    deep, after = outcomes(path)
    assert deep == "row 1: (line 1) is nested too deeply: more than 100 levels. Flatten it"
    assert after == {"a": 2}


def test_nesting_is_an_error_in_a_list(write: Write) -> None:
    deep, after = outcomes(write("a.json", '[{"a": ' + "[" * 200 + "]" * 200 + '}, {"a": 2}]'))
    assert "nested too deeply" in deep
    assert after == {"a": 2}
    with pytest.raises(Unpassable, match=r"row 2: .*nested too deeply"):
        outcomes(write("b.json", '[{"a": 1}, {"a": ' + "[" * 100_000))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_has_not_costs_only_its_row(name: str, literal: str, write: Write) -> None:
    texts = ['{"a": 1}', f'{{"a": {literal}}}', '{"a": 3}']
    path = write(name, "\n".join(texts) if name == "a.jsonl" else f"[{', '.join(texts)}]")
    first, fault, last = (record for _, record in rows(path))
    assert (first, last) == ({"a": 1}, {"a": 3})
    assert isinstance(fault, RowError)
    assert (fault.code, f"{literal} is not JSON" in str(fault)) == ("nan_literal", True)


def test_what_ends_a_list_early_is_told_with_its_place(write: Write) -> None:
    path = write("a.json", '[\n{"a": 1},\n{"a" 2}, {"a": 3}]')
    with pytest.raises(Unpassable, match="row 2: line 3, column 6") as caught:
        list(rows(path))
    assert excerpt(path, caught.value.mark, 8) == '{"a" 2},'


def test_zero_bytes_inside_are_an_error_of_their_row(write: Write) -> None:
    path = write("a.jsonl", b'{"a": 1}\n' * 9000 + b'{"a": "\0"}\n{"a": 2}\n')
    *_, broken, last = outcomes(path)
    assert "row 9001: line 9001, column 8: expected no bare line break or control character" in broken
    assert last == {"a": 2}


# --- tables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('a,b\n1,2\n3,"x\n5,6\n', [{"a": "1", "b": "2"}, "opens a quote", {"a": "5", "b": "6"}]),
        ('a,b\n3,"x\n5,"y"\n7,8\n', ["is not valid CSV", {"a": "5", "b": "y"}, {"a": "7", "b": "8"}]),
        ('a,b\n"x"y,2\n5,6\n', ["is not valid CSV", {"a": "5", "b": "6"}]),
        ('a,b\n"x\ny",2\n5,6\n', [{"a": "x\ny", "b": "2"}, {"a": "5", "b": "6"}]),
        ("a,b\n1\n\n1,2,3\n5,6\n", ["has 1 fields", "has 3 fields", {"a": "5", "b": "6"}]),
        (b"a,b\n1,\xff\n5,6\n", ["is not UTF-8", {"a": "5", "b": "6"}]),
    ],
)  # fmt: skip
def test_a_broken_row_of_a_table_costs_only_itself(text: Any, wanted: list[Any], write: Write) -> None:
    path = write("a.csv", text)
    found = outcomes(path)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one == other if isinstance(other, dict) else other in one
    places = [mark for mark, _ in rows(path)]
    assert [mark.row for mark in places] == list(range(1, len(wanted) + 1))
    assert [[mark for mark, _ in rows(path, place)] for place in places] == [places[at:] for at in range(len(places))]


def test_an_unclosed_quote_does_not_swallow_a_large_file(write: Write) -> None:
    row = "x" * 999 + ",y\n"
    path = write("a.csv", "a,b\n" + '"' + row + row * 20_000)
    first, *others = rows(path)
    assert "row 1: (line 2) opens a quote that is never closed" in str(first[1])
    assert len(others) == 20_000
    assert all(isinstance(record, dict) for _, record in others)


def test_a_cell_of_50_mb_costs_only_its_row(write: Write) -> None:
    path = write("a.csv", "a,b\n1,2\n" + "x" * (50 << 20) + ",2\n5,6\n")
    assert [record if isinstance(record, dict) else record.row for _, record in rows(path)] == [
        {"a": "1", "b": "2"}, 2, {"a": "5", "b": "6"},
    ]  # fmt: skip
    assert [mark.line for mark, _ in rows(path)] == [2, 3, 4]


# --- no files ---------------------------------------------------------------------------------------------------


def test_what_is_no_file_is_refused_and_nothing_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.symlink(tmp_path / "loop.jsonl", tmp_path / "loop.jsonl")
    for name in ("pipe.jsonl", "loop.jsonl", "missing.jsonl", "missing.parquet"):
        with pytest.raises(UploadError, match=f"{name} is not a file that can be read"):
            list(rows(tmp_path / name))
    with pytest.raises(UploadError, match="cannot be read: File name too long"):
        list(rows(tmp_path / ("x" * 300 + ".jsonl")))
    with pytest.raises(UploadError, match="cannot be read: No such file"):
        Extent(tmp_path / "missing.jsonl")


# --- what a person is shown --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.jsonl", b'{"a": 1}\n{broken \xff\n{"a": 3}\n', "{broken \ufffd"),
        ("a.csv", b'a,b\n1,2\n3,4,5\n6,7\n', "3,4,5\n6,7"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n{broken\n', mtime=0), "{broken"),
        ("a.jsonl", '{"a": 1}\n{bröken\n'.encode("utf-16"), "{bröken"),
    ],
)  # fmt: skip
def test_the_text_of_a_fault(name: str, content: bytes, shown: str, write: Write) -> None:
    path = write(name, content)
    faults = [mark for mark, record in rows(path) if isinstance(record, RowError)]
    assert excerpt(path, faults[0], 100) == shown
    assert len(excerpt(path, faults[0], 3)) <= 3


def test_a_binary_file_has_no_text_to_show(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    assert excerpt(tmp_path / "a.parquet", BEGIN, 100) == ""
