from pathlib import Path

import pytest

from studio.datasets import Registry, download
from studio.datasets.entry import describe
from studio.datasets.reading import rows
from studio.errors import DatasetError


@pytest.fixture
def registry(data_dir: Path) -> Registry:
    (data_dir / "a.csv").write_text('instruction,output\nq,"a,b"\n问,答\n', encoding="utf-8")
    registry = Registry(data_dir)
    registry.add(describe("it", "a.csv"))
    return registry


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv", "parquet"])
def test_a_set_in_the_kind_of_file_that_is_wanted(file_format: str, registry: Registry, tmp_path: Path) -> None:
    target = tmp_path / f"mine.{file_format}"
    target.write_text("older")
    assert download.write(registry, "it", file_format, target) == target
    expected = [{"instruction": "q", "output": "a,b"}, {"instruction": "问", "output": "答"}]
    assert [record for _, record in rows(target)] == expected
    assert {path.name for path in tmp_path.iterdir()} == {target.name, "data"}


def test_an_older_file_stays_when_a_new_one_cannot_be_made(registry: Registry, tmp_path: Path) -> None:
    target = tmp_path / "mine.jsonl"
    target.write_text("older")
    (registry.data_dir / "a.csv").write_text("instruction,output\nq,a\nonly one\n")
    for file_format, said in (("jsonl", "row 2"), ("yaml", "cannot write")):
        with pytest.raises(DatasetError, match=said):
            download.write(registry, "it", file_format, target)
    assert target.read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"mine.jsonl", "data"}


def test_a_name_of_255_bytes(registry: Registry, tmp_path: Path) -> None:
    target = tmp_path / ("x" * 249 + ".jsonl")
    assert download.write(registry, "it", "jsonl", target).stat().st_size > 0


def test_a_place_that_takes_no_file_is_told_in_words(registry: Registry, tmp_path: Path) -> None:
    for target in (tmp_path / "nowhere" / "a.jsonl", tmp_path / "data" / "a.csv" / "a.jsonl"):
        with pytest.raises(DatasetError, match="could not be written: No"):
            download.write(registry, "it", "jsonl", target)
