import csv
import gzip
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.datasets.reading import BEGIN, READERS, ROW_MAX_BYTES, json_text, marks, rows
from studio.errors import RowError, SeedbedError, UploadError

Write = Callable[[str, Any], Path]
RECORDS = [{"a": f"row {number} é中\n", "b": "x" * (number % 50)} for number in range(1, 701)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
JSON_ROWS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=6)


def as_csv(delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["a", "b"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
    return text.getvalue()


def as_lines() -> str:
    return "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\n"


def files() -> dict[str, bytes]:
    array = json.dumps(RECORDS, ensure_ascii=False, indent=2)
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(RECORDS), table, row_group_size=100)
    return {
        "array.json": array.encode(),
        "one_line.json": json.dumps(RECORDS).encode(),
        "lines.json": as_lines().encode(),
        "lines.jsonl": as_lines().encode(),
        "array.jsonl": array.encode(),
        "bom.jsonl": as_lines().encode("utf-8-sig"),
        "utf16.jsonl": as_lines().encode("utf-16"),
        "utf16.json": array.encode("utf-16"),
        "utf16be.csv": b"\xfe\xff" + as_csv().encode("utf-16-be"),
        "comma.csv": as_csv().encode("utf-8-sig"),
        "semicolon.csv": as_csv(";").encode(),
        "tab.tsv": as_csv("\t").encode(),
        "packed.jsonl.gz": gzip.compress(as_lines().encode()),
        "packed.json.gz": gzip.compress(array.encode()),
        "packed.csv.gz": gzip.compress(as_csv().encode()),
        "packed.jsonl.zst": pa.compress(as_lines().encode(), "zstd", asbytes=True),
        "packed.tsv.ZST": pa.compress(as_csv("\t").encode(), "zstd", asbytes=True),
        "groups.parquet": table.getvalue().to_pybytes(),
        "file.arrow": as_arrow(pa.ipc.new_file),
        "stream.arrow": as_arrow(pa.ipc.new_stream),
        "book.xlsx": as_book(),
    }


def as_arrow(new: Callable[..., Any]) -> bytes:
    table, data = pa.Table.from_pylist(RECORDS), pa.BufferOutputStream()
    with new(data, table.schema) as writer:
        writer.write_table(table, max_chunksize=90)
    return data.getvalue().to_pybytes()


def as_book() -> bytes:
    book, data = openpyxl.Workbook(), io.BytesIO()
    for row in [["a", "b"], *([record["a"], record["b"] or None] for record in RECORDS)]:
        book.active.append(row)
    book.save(data)
    return data.getvalue()


@pytest.mark.parametrize("name", files())
def test_every_kind_gives_the_same_rows(name: str, write: Write) -> None:
    path = write(name, files()[name])
    read = list(rows(path))
    assert [record for _, record in read] == RECORDS
    assert [mark.row for mark, _ in read] == list(range(1, len(RECORDS) + 1))
    *starts, end = marks(path)
    assert (starts[0], end.row) == (read[0][0], len(RECORDS) + 1)
    for start in starts:
        assert list(rows(path, start)) == read[start.row - 1 :]


@pytest.mark.parametrize("name", files())
def test_reading_goes_on_from_any_mark(name: str, write: Write) -> None:
    path = write(name, files()[name])
    read = list(rows(path))
    for at in (0, 1, 99, 100, 333, 699):
        assert list(rows(path, read[at][0])) == read[at:]


def test_a_text_file_has_a_document_a_line(write: Write) -> None:
    path = write("wiki.txt", "one\r\n\n  two \nthree")
    assert [record for _, record in rows(path)] == [{"text": "one"}, {"text": "  two "}, {"text": "three"}]


def first_error(path: Path) -> str:
    try:
        return next(str(record) for _, record in rows(path) if isinstance(record, RowError))
    except (RowError, UploadError) as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '[\n {"a": 1},\n {"a": 2\n]', "row 2: line 4, column 1: expected ',' or the closing"),
        ("a.json", '[{"a": 1}, {"a": }]', "row 2: line 1, column 18: expected a value, found '}'"),
        ("a.json", '[{"a": 1}\n {"a": 2}]', "row 2: line 2, column 2: expected ',' before the next row"),
        ("a.json", '[{"a": 1},', "row 2: line 1, column 11: expected a value, the file or row ends here"),
        ("a.json", '[{"a": 1}', "row 2: line 1, column 10: expected ',' before the next row, or ']' after the last"),
        ("a.json", '[{"a": "x', "row 1: line 1, column 8: expected a closing double quote"),
        ("a.json", '[{"a": "x\ny"}]', "row 1: line 1, column 10: expected no bare line break"),
        ("a.json", '[{"a": 1}] x', "expected the end of the file after the list, found 'x'"),
        ("a.json", '[{"a": 1}, 5]', "row 2: (line 1) must be an object {…}, found a number"),
        ("a.json", '{"data": [\n]}', "expected a list of rows: [{…}, …], found '{'"),
        ("a.json", "", "expected a list of rows"),
        ("a.json", '[{"a": NaN}]', "NaN is not JSON"),
        ("a.json", '[{"a": "\\ud83d"}]', "\\ud83d is half of a character"),
        ("a.json", "[{" + '"a": [{' * 100_000, "nested too deeply"),
        ("a.json", '[{"a": ' + "9" * 5000 + "}]", "too many digits"),
        ("a.json", '[{"a": "' + "x" * (ROW_MAX_BYTES + 9) + '"}]', "longer than 16 MB"),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2,}\n', "row 2: line 3, column 9: expected"),
        ("a.jsonl", '{"a": 1} {"a": 2}\n', "row 1: line 1, column 10: expected the end of the row, found '{'"),
        ("a.jsonl", '{"a": 1}\n7\n', "row 2: (line 2) must be an object"),
        ("a.jsonl", '{"a": "\\udc00"}\n', "half of a character"),
        ("a.jsonl", '{"a": Infinity}\n', "Infinity is not JSON"),
        ("a.jsonl", '{"a":' * 3000 + "\n", "nested too deeply"),
        ("a.jsonl", '{"a": "' + "x" * (50 << 20) + '"}\n', "longer than 16 MB"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "row 2: (line 3) has 3 fields, the header has 2: a, b"),
        ("a.csv", 'a,b\n1,2\n"1,2\n', "row 2: (line 3) opens a quote that is never closed"),
        ("a.csv", "a,a\n1,2\n", "must name each column once"),
        ("a.csv", "a,,c\n1,2,3\n", "must name each column once"),
        ("a.csv", "", "must name each column once; found nothing"),
        ("a.csv", 'a\n"' + ("x" * 999 + ",\n") * 20_000, "row 1: (line 2) opens a quote that is never closed"),
        ("a.csv", "a\n" + "x" * (50 << 20), "row 1: (line 2) is longer than 16 MB"),
        ("a.csv", "a\n\x00\n", "byte 2 is zero"),
        ("a.csv", "a,b\n1,2\n3,4\r5,6\n", "row 2: (line 3) is not valid CSV"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "compressed twice"),
        ("a.jsonl", b'{"a": "ok"}\n{"a": "caf\xe9"}\n', "row 2: (line 2) is not UTF-8 (byte 0xe9)"),
        ("a.json", b'[{"a": "ok"},\n{"a": "caf\xe9"}]', "row 2: (line 2) is not UTF-8 (byte 0xe9)"),
        ("a.csv", b"a,b\n1,2\n\xc4\xe3,2\n", "row 2: (line 3) is not UTF-8 (byte 0xc4)"),
        ("a.txt", b"one\n\xff\n", "row 2: (line 2) is not UTF-8 (byte 0xff)"),
        ("a.jsonl", "é".encode("utf-32"), "UTF-32"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "zero (UTF-16 without its mark?"),
        ("a.jsonl", b"\xff\xfe{\x00\x00\xd8x\x00", "not valid utf-16-le"),
        ("a.csv", b"PK\x03\x04rest", "Office document"),
        ("a.jsonl", b"PAR1rest", "name it .parquet"),
        ("a.txt", b"%PDF-1.7", "a PDF"),
        ("a.json", b"\x80\x04\x95pickled", "pickle"),
        ("a.parquet", b"PAR1 not really PAR1", "not a parquet file"),
        ("a.parquet", b"", "not a parquet file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-12], "damaged or cut off"),
        ("a.jsonl.gz", b"\x1f\x8bnot gzip at all", "cannot be unpacked"),
        ("a.jsonl.gz", gzip.compress(b"x" * (64 << 20), mtime=0), "longer than 16 MB"),
        ("a.xyz", "", "cannot read .xyz; use .json"),
        ("noextension", "", "a file without extension"),
    ],
)  # fmt: skip
def test_a_broken_file_says_where_and_what_was_expected(name: str, content: Any, said: str, write: Write) -> None:
    assert said in first_error(write(name, content))


def test_reading_goes_on_after_a_broken_line(write: Write) -> None:
    path = write("a.jsonl", '{"a": 1}\n{"a": \n{"a": 3}\n[4]\n{"a": 5}\n')
    read = [record if isinstance(record, dict) else record.row for _, record in rows(path)]
    assert read == [{"a": 1}, 2, {"a": 3}, 4, {"a": 5}]


@given(JSON_ROWS, st.sampled_from([None, 1, "\t"]), st.booleans(), st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_an_array_reads_the_same_through_any_window(
    monkeypatch: pytest.MonkeyPatch, value: list[Any], indent: Any, ascii_only: bool, chunk_bytes: int
) -> None:
    monkeypatch.setattr(json_text, "_CHUNK_BYTES", chunk_bytes)
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    found = list(json_text.elements(io.BytesIO(text), BEGIN))
    assert [element for _, element in found] == value
    for mark, element in found:
        again = json_text.elements(io.BytesIO(text[mark.offset :]), mark)
        assert next(again) == (mark, element)


@given(JSON_ROWS, st.integers(0, 400), st.binary(max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_an_error_is_the_same_through_any_window(
    monkeypatch: pytest.MonkeyPatch, value: list[Any], at: int, junk: bytes
) -> None:
    text = json.dumps(value, indent=1).encode()
    broken = text[: at % (len(text) + 1)] + junk + text[at % (len(text) + 1) + 1 :]

    def outcome(chunk_bytes: int) -> Any:
        monkeypatch.setattr(json_text, "_CHUNK_BYTES", chunk_bytes)
        try:
            return [(mark, str(value)) for mark, value in json_text.elements(io.BytesIO(broken), BEGIN)]
        except SeedbedError as error:
            return str(error)

    assert outcome(3) == outcome(1 << 20)


BASES = {
    ".json": b'[{"a": "x", "b": [1, {"c": null}]}, {"a": "y"}]',
    ".jsonl": b'{"a": "x", "b": [1]}\n{"a": "y"}\n',
    ".ndjson": b'{"a": "x"}\n',
    ".csv": b'a,b\n1,"x\ny"\n2,z\n',
    ".tsv": b"a\tb\n1\tx\n",
    ".txt": b"one\ntwo\n",
    ".parquet": files()["groups.parquet"][:3000],
    ".arrow": files()["file.arrow"],
    ".xlsx": files()["book.xlsx"],
}


def test_every_reader_is_fuzzed() -> None:
    assert BASES.keys() == READERS.keys()


@pytest.mark.parametrize("suffix", BASES)
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_nothing_but_our_errors_escapes(suffix: str, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([BASES[suffix], b"", b"\xff\xfe", b"\xef\xbb\xbf"])))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    packed = data.draw(st.booleans()) and suffix not in (".parquet", ".arrow", ".xlsx")
    path = tmp_path / f"fuzzed{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    with suppress(SeedbedError):
        assert all(isinstance(record, dict | RowError) for _, record in rows(path))


@given(st.integers(0, 2**31), st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_a_flipped_byte_in_parquet_is_our_error_or_none(tmp_path: Path, at: int, byte: int) -> None:
    content = bytearray(files()["groups.parquet"])
    content[at % len(content)] = byte
    path = tmp_path / "flipped.parquet"
    path.write_bytes(content)
    with suppress(SeedbedError):
        assert all(isinstance(record, dict | RowError) for _, record in rows(path))
