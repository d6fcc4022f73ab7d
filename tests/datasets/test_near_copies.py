import gzip
import json
import os
import time
from collections import namedtuple
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studio.datasets import Registry, index, near_copies, pace, preview, scratch
from studio.datasets.cache import forget
from studio.datasets.entry import describe
from studio.datasets.reading import rows
from studio.errors import Cancelled, UploadError

RECORDS = [{"instruction": f"question {number} é", "output": "yes"} for number in range(1, 3001)]
TEXT = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_copies, "SMALL_BYTES", 0)
    monkeypatch.setattr("studio.datasets.reading.columnar.NEAR_BYTES", 0)


def write(path: Path) -> Path:
    """The records as the kind of file that the name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in (RECORDS[0].keys(), [], *(record.values() for record in RECORDS)):
            book.active.append(list(row))
        book.save(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(TEXT.encode()))
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(TEXT.encode(), "zstd", asbytes=True))
    else:
        path.write_text(TEXT, encoding="utf-16")
    return path


FAR = ["a.jsonl.gz", "a.jsonl.zst", "utf16.jsonl", "a.parquet", "a.xlsx"]


@pytest.mark.parametrize("name", FAR)
def test_a_copy_holds_the_same_rows_and_is_entered_anywhere(name: str, tmp_path: Path) -> None:
    path, cache = write(tmp_path / name), tmp_path / "cache"
    assert near_copies.near(path, cache) == path
    made = index.indexed(path, cache)
    copy = near_copies.near(path, cache)
    assert copy.is_relative_to(cache)
    assert [record for _, record in rows(copy)] == [record for _, record in rows(path)] == RECORDS
    assert [mark.line for mark, _ in rows(copy)] == [mark.line for mark, _ in rows(path)]
    assert made.rows == 3000
    assert next(rows(copy, made.before(2900)))[1] == RECORDS[made.before(2900).row - 1]


@pytest.mark.parametrize("name", FAR)
def test_pages_come_from_the_copy(name: str, data_dir: Path) -> None:
    write(data_dir / name)
    registry = Registry(data_dir)
    registry.add(describe("a", name))
    before = preview.page(registry, "a", 2998, 5)
    preview.count(registry, "a")
    page = preview.page(registry, "a", 2998, 5)
    assert page == before
    assert [row.turns[0].content for row in page.rows] == ["question 2999 é", "question 3000 é"]
    assert page.total == 3000


def test_a_folder_is_copied_file_by_file(data_dir: Path) -> None:
    (data_dir / "set").mkdir()
    (data_dir / "set" / "1.jsonl").write_text('{"instruction": "first", "output": "x"}\n{"instr\n')
    write(data_dir / "set" / "2.jsonl.gz")
    made = index.indexed(data_dir / "set", data_dir / ".cache")
    copy = near_copies.near(data_dir / "set", data_dir / ".cache")
    assert made.rows == 3002
    assert [str(row) for _, row in rows(copy)] == [str(row) for _, row in rows(data_dir / "set")]
    entry = describe("set", "set")
    shown = preview.sample(data_dir / "set", entry, 3)
    assert [(row.file, row.line) for row in shown] == [("1.jsonl", 1), ("1.jsonl", 2), ("2.jsonl.gz", 1)]
    assert (shown[1].raw, "line 2" in shown[1].error) == ('{"instr', True)


def test_what_is_near_or_small_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "a.jsonl"
    plain.write_text(TEXT)
    assert near_copies.bring_near(plain, tmp_path / "cache", None, None) == plain
    monkeypatch.setattr(near_copies, "SMALL_BYTES", 1 << 20)
    packed = write(tmp_path / "a.jsonl.gz")
    assert near_copies.bring_near(packed, tmp_path / "cache", None, None) == packed
    assert not (tmp_path / "cache").exists()


def test_no_copy_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_copies.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 1000))
    path, cache = write(tmp_path / "a.jsonl.gz"), tmp_path / "cache"
    assert index.indexed(path, cache).rows == 3000
    assert [kept.suffix for kept in cache.iterdir()] == [".json"]
    assert index.cached(path, cache) is not None


def test_a_copy_given_up_or_of_a_damaged_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TOLD_S", 0)
    path, cache = write(tmp_path / "a.jsonl.gz"), tmp_path / "cache"
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        near_copies.bring_near(path, cache, None, lambda: next(answers))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UploadError, match="cut off"):
        near_copies.bring_near(path, cache, None, None)
    assert list(cache.iterdir()) == []


def test_what_a_killed_copy_left_is_swept(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "a.jsonl.gz"), tmp_path / "cache"
    left = cache / ".copy-left"
    left.mkdir(parents=True)
    (left / "00000-a.jsonl").write_text(TEXT)
    os.utime(left, (0, time.time() - 2 * scratch.FRESH_S))
    near_copies.bring_near(path, cache, None, None)
    assert not left.exists()


def test_a_changed_file_has_no_copy_and_is_forgotten_whole(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "a.jsonl.gz"), tmp_path / "cache"
    other = write(tmp_path / "b.jsonl.gz")
    for each in (path, other):
        index.indexed(each, cache)
    path.write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert near_copies.near(path, cache) == path
    assert index.indexed(path, cache).rows == 1
    path.unlink()
    forget(path, cache)
    assert near_copies.near(other, cache) != other
    assert len(list(cache.iterdir())) == 2
