from pathlib import Path

import pytest

from studio.datasets import Registry, operations
from studio.datasets.entry import describe
from studio.errors import DatasetError, DatasetNotFound
from tests.datasets.operations.conftest import left, put, records


def test_a_duplicate_is_a_file_of_its_own(registry: Registry) -> None:
    (entry,) = operations.duplicate(registry, "it")
    copy = registry.file("it-copy")
    assert (entry.name, copy.name) == ("it-copy", "it-copy.jsonl")
    assert copy.read_bytes() == registry.file("it").read_bytes()
    copy.write_text("")
    assert len(records(registry, "it")) == 100


def test_a_duplicate_is_read_as_the_first(registry: Registry) -> None:
    columns = {"prompt": "instruction", "query": None, "response": "lang"}
    registry.add(describe("other", "it.jsonl", columns=columns))
    (entry,) = operations.duplicate(registry, "other", "mine")
    assert entry.columns == registry.entry("other").columns
    assert [entry.name for entry in operations.duplicate(registry, "other", "mine")] == ["mine-2"]


def test_a_folder_is_duplicated(data_dir: Path, registry: Registry) -> None:
    (data_dir / "many.d").mkdir()
    for name in "ab":
        (data_dir / "many.d" / f"{name}.jsonl").write_bytes(registry.file("it").read_bytes())
    registry.add(describe("many", "many.d"))
    (entry,) = operations.duplicate(registry, "many")
    assert (data_dir / entry.file_name).is_dir()
    assert len(records(registry, "many-copy")) == 200


def test_repetitions_are_left_out(registry: Registry) -> None:
    row = {"instruction": "q", "output": "a"}
    other = {"output": "a", "instruction": "q"}
    more = {**row, "id": 1}
    put(registry, "double", [row, more, row, other, {**more, "id": 2}, row])
    (entry,) = operations.deduplicate(registry, "double")
    assert records(registry, entry.name) == [row, more, {**more, "id": 2}]
    assert entry.origin == {"operation": "deduplicate", "of": ["double"], "dropped": 3}


def test_what_is_not_there(registry: Registry) -> None:
    registry.add(describe("gone", "gone.jsonl"))
    for action in (operations.duplicate, operations.deduplicate, operations.shuffle):
        with pytest.raises(DatasetNotFound, match="no dataset 'nothing'"):
            action(registry, "nothing")
        with pytest.raises(DatasetError, match="upload it there"):
            action(registry, "gone")


def test_a_row_that_cannot_be_read_ends_it_and_nothing_remains(data_dir: Path, registry: Registry) -> None:
    with open(data_dir / "it.jsonl", "a") as file:
        file.write("{broken\n")
    for action in (operations.deduplicate, operations.shuffle, lambda *given: operations.split(*given, fraction=0.5)):
        with pytest.raises(DatasetError, match=r"it: row 101: .*Repair it first"):
            action(registry, "it")
    assert left(registry) == {"it.jsonl"}
    assert list((data_dir / ".incoming").iterdir()) == []
    assert registry.names() == ["it"]
