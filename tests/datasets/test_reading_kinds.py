"""What each kind of file gives: workbooks, columns, compressed text, folders."""

import datetime
import decimal
import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studio.datasets.reading import Extent, Mark, files_of, marks, other_sheets, rows, unpacked_bytes
from studio.datasets.reading.columnar import NEAR_BYTES
from studio.datasets.reading.near import is_near
from studio.errors import RowError, UploadError

Write = Callable[[str, Any], Path]


def records(path: Path) -> list[Any]:
    return [record for _, record in rows(path)]


# --- workbooks --------------------------------------------------------------------------------------------------


def book(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for title, lines in sheets.items():
        sheet = made.create_sheet(title)
        for line in lines:
            sheet.append(line)
    made.save(path)
    return path


def test_what_is_wrong_with_a_damaged_workbook_is_told_in_brief(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", {"data": [["a"], *([n] for n in range(3000))]})
    damaged = bytearray(path.read_bytes())
    for entry in zipfile.ZipFile(path).infolist():  # each name reaches far into what is packed
        damaged[entry.header_offset + 26 : entry.header_offset + 28] = (4000).to_bytes(2, "little")
    path.write_bytes(damaged)
    with pytest.raises(UploadError, match="not an Excel workbook that can be read") as caught:
        list(rows(path))
    assert len(str(caught.value)) < 400


def test_cells_become_text_as_in_a_csv(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 5, 1)
    cells = [3, 3.0, 0.1 + 0.2, True, day, day.replace(hour=9), datetime.time(9, 30), None, " é中 "]
    texts = ["3", "3", "0.3", "true", "2024-05-01", "2024-05-01 09:00:00", "09:30:00", "", " é中 "]
    names = [f"c{number}" for number in range(len(cells))]
    path = book(tmp_path / "a.xlsx", {"data": [names, cells]})
    assert records(path) == [dict(zip(names, texts, strict=True))]


def test_the_first_visible_sheet_with_rows_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    book(path, {"secret": [["x"], [1]], "empty": [], "data": [["a"], ["1"]], "notes": [["b"], ["2"]]})
    made = openpyxl.load_workbook(path)
    made["secret"].sheet_state = "hidden"
    made.save(path)
    assert records(path) == [{"a": "1"}]
    assert other_sheets(path) == ("notes",)


def test_lines_of_a_sheet_keep_their_numbers(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", {"data": [[], ["a", "b"], ["1"], [], ["2", "3", "4"], ["#REF!", "5"]]})
    (first, good), (second, ragged), (third, broken) = rows(path)
    assert (first, good) == (Mark(1, 2, 3), {"a": "1", "b": ""})
    assert (second.row, second.line, str(ragged)) == (2, 5, "row 2: (line 5) has 3 fields, the header has 2: a, b")
    assert (third.line, str(broken)) == (6, "row 3: (line 6) column 'a' holds the error #REF!: mend the formula")
    assert [mark for mark, _ in rows(path, second)] == [second, third]


def test_a_sheet_that_lies_about_its_size_is_read_whole(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", {"data": [["a", "b"], ["1", "2"], ["3", "4"]]})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert b'<dimension ref="A1:B3"' in sheet
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b'<dimension ref="A1:B3"', b'<dimension ref="A1"')
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert records(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "has a password or is an old .xls"),
        (b"PK\x03\x04 no zip", "is not an Excel workbook that can be read"),
        (b"a,b\n1,2\n", "is not an Excel workbook that can be read"),
    ],
)
def test_what_is_no_workbook_is_refused(content: bytes, said: str, write: Write) -> None:
    with pytest.raises(UploadError, match=said):
        records(write("a.xlsx", content))


@pytest.mark.parametrize(("lines", "said"), [([], "found nothing"), ([["a", "a"]], "each column once")])
def test_a_sheet_needs_a_header(lines: list[list[Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(UploadError, match=said):
        records(book(tmp_path / "a.xlsx", {"data": lines}))


# --- columns ----------------------------------------------------------------------------------------------------

ODD = pa.table(
    {
        "null": pa.array([None, "x"]),
        "nested": pa.array([[{"role": "user", "parts": ["a", None]}], []]),
        "day": pa.array([datetime.date(2024, 5, 1), None]),
        "moment": pa.array([datetime.datetime(2024, 5, 1, 9, 30), None], pa.timestamp("us")),
        "bytes": pa.array([b"text", b"\xff\xfe"]),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "number": pa.array([1.5, float("nan")]),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "word": pa.array(["a", "a"]).dictionary_encode(),
    }
)
PLAIN = [
    {
        "null": None, "nested": [{"role": "user", "parts": ["a", None]}], "day": "2024-05-01",
        "moment": "2024-05-01 09:30:00", "bytes": "text", "price": "1.50", "number": 1.5, "map": {"k": 1}, "word": "a",
    },
    {
        "null": "x", "nested": [], "day": None, "moment": None, "bytes": {"base64": "//4="}, "price": None,
        "number": None, "map": None, "word": "a",
    },
]  # fmt: skip


def columnar(path: Path, table: Any, **how: Any) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, **how)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, **how)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_values_become_what_json_can_hold(name: str, tmp_path: Path) -> None:
    path = columnar(tmp_path / name, ODD)
    assert records(path) == PLAIN
    assert json.loads(json.dumps(records(path), allow_nan=False)) == PLAIN


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_value_that_cannot_be_read_costs_its_row(name: str, tmp_path: Path) -> None:
    years = pa.array([0, 2**62], pa.int64()).cast(pa.timestamp("us"), safe=False)
    table = pa.table({"a": [1.0, float("inf"), 3.0]}), pa.table({"when": years})
    good, broken, after = records(columnar(tmp_path / name, table[0]))
    assert (good, after) == ({"a": 1.0}, {"a": 3.0})
    assert str(broken) == "row 2: holds a value that cannot be read: an infinite number"
    good, broken = records(columnar(tmp_path / name, table[1]))
    assert good == {"when": "1970-01-01 00:00:00"}
    assert isinstance(broken, RowError)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_two_columns_of_one_name_are_refused(name: str, tmp_path: Path) -> None:
    path = columnar(tmp_path / name, pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(UploadError, match="several columns called 'a'"):
        records(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_row_far_inside_is_reached_from_its_mark(name: str, tmp_path: Path) -> None:
    path = columnar(tmp_path / name, pa.table({"a": range(5000)}))
    places = list(marks(path))
    assert [place.row for place in places] == [1, 1025, 2049, 3073, 4097, 5001]
    for place in places[:-1]:
        assert next(rows(path, place)) == (place, {"a": place.row - 1})


def test_parquet_of_one_large_piece_is_far(tmp_path: Path) -> None:
    text = [f"{number} " + "x" * 9000 for number in range(NEAR_BYTES // 9000 + 100)]
    table = pa.table({"a": text})
    assert is_near(columnar(tmp_path / "pieces.parquet", table, row_group_size=1000, use_dictionary=False))
    assert not is_near(columnar(tmp_path / "one.parquet", table, use_dictionary=False))


# --- compressed text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_that_was_cut_off_is_not_taken_for_a_whole_one(suffix: str, write: Write) -> None:
    text = b"".join(b'{"a": %d}\n' % number for number in range(50_000))
    packed = gzip.compress(text) if suffix == ".gz" else pa.compress(text, "zstd", asbytes=True)
    with pytest.raises(UploadError, match=f"a.jsonl{suffix} is damaged or cut off"):
        records(write(f"a.jsonl{suffix}", packed[:-9]))


def test_several_packed_streams_in_a_row_are_one_file(write: Write) -> None:
    line = b'{"a": 1}\n'
    assert len(records(write("a.jsonl.gz", gzip.compress(line) * 2))) == 2
    assert len(records(write("a.jsonl.zst", pa.compress(line, "zstd", asbytes=True) * 2))) == 2


def test_what_is_compressed_inside_is_not_unpacked_twice(write: Write) -> None:
    with pytest.raises(UploadError, match=r"unpack it first \(.parquet is compressed inside\)"):
        records(write("a.parquet.gz", gzip.compress(b"PAR1")))


def test_what_files_say_that_they_unpack_to(write: Write, tmp_path: Path) -> None:
    assert unpacked_bytes(write("a.jsonl", '{"a": 1}')) == 8
    assert unpacked_bytes(write("a.jsonl.gz", gzip.compress(b"x"))) is None
    assert unpacked_bytes(columnar(tmp_path / "a.parquet", pa.table({"a": ["x" * 10**6]}))) > 10**6
    workbook = book(tmp_path / "a.xlsx", {"data": [["a"], ["x" * 30_000]]})
    assert unpacked_bytes(workbook) > 30_000 > workbook.stat().st_size


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_line_ends_of_an_old_macintosh(name: str, write: Write) -> None:
    text = {"a.jsonl": '{"text": "é"}\r\r{"text": "b"}\r', "a.csv": "text\ré\rb\r", "a.txt": "é\rb"}[name]
    path = write(name, text)
    read = list(rows(path))
    assert [record for _, record in read] == [{"text": "é"}, {"text": "b"}]
    assert list(rows(path, read[1][0])) == read[1:]


# --- folders ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five rows in four files, one of them empty, one compressed, one in a folder of its own."""
    top = tmp_path / "shards"
    (top / "more").mkdir(parents=True)
    (top / "part-1.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    (top / "part-2.jsonl").write_text("")
    (top / "part-3.json").write_text('[{"a": 3}, {"a": 4}]')
    (top / "more" / "part-0.jsonl.gz").write_bytes(gzip.compress(b'{"a": 0}\n'))
    (top / "README.md").write_text("# About")
    (top / ".cache").mkdir()
    (top / ".cache" / "x.csv").write_text("a\n1\n")
    return top


def test_a_folder_is_read_as_one_file(folder: Path) -> None:
    read = list(rows(folder))
    assert [file.name for file in files_of(folder)] == [
        "part-0.jsonl.gz",
        "part-1.jsonl",
        "part-2.jsonl",
        "part-3.json",
    ]
    assert [record for _, record in read] == [{"a": number} for number in range(5)]
    assert [(mark.row, mark.line, mark.file) for mark, _ in read] == [
        (1, 1, 0),
        (2, 1, 1),
        (3, 3, 1),
        (4, 1, 3),
        (5, 1, 3),
    ]
    for position, (mark, _) in enumerate(read):
        assert list(rows(folder, mark)) == read[position:]
    assert [(mark.row, mark.file) for mark in marks(folder)] == [(1, 0), (2, 1), (4, 3), (6, 3)]


def test_how_far_reading_is_grows_through_the_files(folder: Path) -> None:
    extent = Extent(folder)
    done = [extent.done(mark) for mark in marks(folder)]
    assert done == sorted(done)
    assert (done[0], done[-1] <= extent.total) == (0, True)
    assert extent.total == sum(file.stat().st_size for file in files_of(folder))


def test_a_folder_of_several_kinds_is_refused(folder: Path) -> None:
    (folder / "part-4.csv").write_text("a\n5\n")
    with pytest.raises(UploadError, match=r"the folder shards mixes kinds of files \(part-3.json and part-4.csv\)"):
        records(folder)


def test_a_file_in_a_folder_that_cannot_be_read_is_never_passed_over(folder: Path) -> None:
    (folder / "part-1.jsonl.bak").write_text("{}")
    with pytest.raises(UploadError, match=r"part-1.jsonl.bak"):
        records(folder)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing yet")
    with pytest.raises(UploadError, match="has no data files"):
        records(tmp_path)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private.jsonl").write_text('{"a": "secret"}\n')
    os.symlink(tmp_path / "private.jsonl", folder / "part-9.jsonl")
    with pytest.raises(UploadError, match=r"part-9.jsonl is a link to a file outside"):
        records(folder)


def test_each_table_of_a_folder_has_its_own_header(tmp_path: Path) -> None:
    for name, text in (("1.csv", "a,b\n1,2\n"), ("2.csv", "b;a\n4;3\n")):
        (tmp_path / name).write_text(text)
    assert records(tmp_path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
