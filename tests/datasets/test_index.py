from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import index, pace
from studio.datasets.reading import BEGIN, rows
from studio.errors import Cancelled

Write = Callable[[str, Any], Path]
LINES = [{"text": f"{number} " + "x" * 990} for number in range(1, 1001)]


def test_an_index_is_made_once_and_made_again_when_the_file_changes(write: Write, tmp_path: Path) -> None:
    path, cache = write("a.jsonl", LINES), tmp_path / "cache"
    assert index.cached(path, cache) is None
    made = index.indexed(path, cache)
    assert made.rows == 1000
    assert 2 <= len(made.marks) <= 5
    assert index.cached(path, cache) == made
    write("a.jsonl", LINES[:5])
    assert index.cached(path, cache) is None
    assert index.indexed(path, cache).rows == 5


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"rows": "x", "marks": []}', b'{"rows": 1, "marks": [[1]]}'])
def test_a_damaged_index_is_made_again(damage: bytes, write: Write, tmp_path: Path) -> None:
    path, cache = write("a.jsonl", LINES), tmp_path / "cache"
    index.indexed(path, cache)
    next(cache.iterdir()).write_bytes(damage)
    assert index.indexed(path, cache).rows == 1000


def test_the_nearest_mark(write: Write) -> None:
    path = write("a.jsonl", LINES)
    made = index.survey(path)
    for row in (1, 300, 1000):
        assert 0 <= row - made.before(row).row < 600
        assert next(rows(path, made.before(row)))[1] == LINES[made.before(row).row - 1]
    assert made.before(5000) == made.marks[-1]
    assert index.survey(write("b.jsonl", "")) == index.Index(0, ())
    assert index.survey(write("b.jsonl", "")).before(9) == BEGIN


def test_rows_count_up_to_the_one_that_cannot_be_passed(write: Write) -> None:
    assert index.survey(write("a.json", '[{"a": 1}, {"a": 2}, {"a"]')).rows == 3


def test_the_index_of_a_pass_over_all_rows_is_as_good(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", LINES)
    surveyor = index.Surveyor()
    for mark, _ in rows(path):
        surveyor.see(mark)
    index.save(path, surveyor.index(), tmp_path / "cache")
    made = index.cached(path, tmp_path / "cache")
    assert made == surveyor.index()
    assert 700 - made.before(700).row < 600


def test_an_older_index_of_the_same_file_goes(write: Write, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for count in (3, 4):
        path = write("a.jsonl", LINES[:count])
        index.save(path, index.survey(path), cache)
    other = write("b.jsonl", LINES)
    index.indexed(other, cache)
    assert len(list(cache.iterdir())) == 2


def test_progress_is_told_in_bytes_and_it_stops_when_asked(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TOLD_S", 0)
    path = write("a.jsonl", LINES)
    told: list[tuple[int, int]] = []
    index.indexed(path, tmp_path / "cache", lambda done, total: told.append((done, total)))
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    with pytest.raises(Cancelled):
        index.indexed(path, tmp_path / "other", cancelled=lambda: True)
    assert not (tmp_path / "other").exists()
