import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, edit, load
from studio.datasets.edit.edits import KEPT_VERSIONS
from studio.datasets.entry import describe
from studio.datasets.reading import rows
from studio.errors import DatasetError, DatasetNotFound

ROWS = [{"instruction": f"q{number}", "output": f"a{number}"} for number in range(1, 6)]
NEW = {"instruction": "问题", "output": "new"}


def lines(records: list[dict[str, str]], end: str = "\n") -> bytes:
    return "".join(json.dumps(record) + end for record in records).encode()


def table(records: list[dict[str, str]], between: str = ",", end: str = "\n") -> bytes:
    text = [between.join(cells) for cells in (("instruction", "output"), *(record.values() for record in records))]
    return "".join(line + end for line in text).encode()


FILES: dict[str, bytes] = {
    "a.jsonl": lines(ROWS),
    "no end.jsonl": lines(ROWS).rstrip(),
    "mark.jsonl": b"\xef\xbb\xbf" + lines(ROWS),
    "windows.jsonl": lines(ROWS, "\r\n\r\n"),
    "flat.json": json.dumps(ROWS).encode(),
    "spread.json": json.dumps(ROWS, indent=4).encode() + b"\n",
    "mark.json": b"\xef\xbb\xbf" + json.dumps(ROWS, indent=1).encode(),
    "lines.json": lines(ROWS),
    "a.csv": table(ROWS),
    "semicolon.csv": table(ROWS, ";", "\r\n"),
    "a.tsv": table(ROWS, "\t"),
}  # fmt: skip


def made(data_dir: Path, file_name: str, content: bytes) -> Registry:
    (data_dir / file_name).write_bytes(content)
    registry = Registry(data_dir)
    registry.add(describe("it", file_name))
    return registry


def found(registry: Registry) -> list[Any]:
    return [record for _, record in rows(registry.file("it"))]


@pytest.fixture(params=FILES)
def registry(request: pytest.FixtureRequest, data_dir: Path) -> Registry:
    return made(data_dir, request.param, FILES[request.param])


@pytest.mark.parametrize("row", [1, 3, 5])
def test_a_replaced_row_leaves_every_other_byte(registry: Registry, row: int) -> None:
    before = registry.file("it").read_bytes()
    edit.replace_row(registry, "it", row, NEW)
    assert found(registry) == [*ROWS[: row - 1], NEW, *ROWS[row:]]
    after = registry.file("it").read_bytes()
    for other in {1, 3, 5} - {row}:
        kept = before[before.index(f"q{other}".encode()) : before.index(f"a{other}".encode())]
        assert kept in after
    assert after.startswith(before[: before.index(b"q1") - 17])
    assert after[after.rindex(b"w") + 1 :].endswith(before[before.index(b"a5") + 3 :]) or row != 5


@pytest.mark.parametrize("gone", [[1], [3], [5], [1, 2], [4, 5], [1, 3, 5], [2, 3, 4, 5], [5, 2, 2]])
def test_deleted_rows(registry: Registry, gone: list[int]) -> None:
    edit.delete_rows(registry, "it", gone)
    assert found(registry) == [record for row, record in enumerate(ROWS, 1) if row not in gone]


@pytest.mark.parametrize("after", [0, 1, 4, 5, None])
def test_an_added_row(registry: Registry, after: int | None) -> None:
    edit.add_row(registry, "it", NEW, after)
    at = 5 if after is None else after
    assert found(registry) == [*ROWS[:at], NEW, *ROWS[at:]]
    assert edit.raw(registry, "it", at + 1) == NEW


def test_edits_are_undone_in_turn(registry: Registry) -> None:
    original = registry.file("it").read_bytes()
    first = edit.replace_row(registry, "it", 2, NEW)
    between = registry.file("it").read_bytes()
    second = edit.delete_rows(registry, "it", [1, 2])
    assert [each.what for each in edit.history(registry, "it")] == ["2 rows deleted", "row 2 replaced"]
    with pytest.raises(DatasetError, match="undo the later change first"):
        edit.undo(registry, first)
    edit.undo(registry, second)
    assert registry.file("it").read_bytes() == between
    edit.undo(registry, first)
    assert registry.file("it").read_bytes() == original
    assert edit.history(registry, "it") == []


def test_what_was_changed_by_another_hand_cannot_be_undone(data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS))
    undo_id = edit.delete_rows(registry, "it", [1])
    registry.file("it").write_bytes(lines(ROWS[:2]))
    assert edit.history(registry, "it") == []
    with pytest.raises(DatasetError, match="changed after that edit"):
        edit.undo(registry, undo_id)
    again = edit.delete_rows(registry, "it", [1])
    assert [each.id for each in edit.history(registry, "it")] == [again]
    registry.remove("it")
    made(data_dir, "a.jsonl", lines(ROWS))
    assert edit.history(registry, "it") == []


def test_a_pretty_file_stays_pretty(data_dir: Path) -> None:
    registry = made(data_dir, "a.json", json.dumps(ROWS, indent=4).encode())
    edit.replace_row(registry, "it", 2, {"instruction": "q", "output": "a", "history": [["x", "y"]]})
    text = (data_dir / "a.json").read_text()
    assert text == json.dumps(json.loads(text), indent=4)


def test_a_row_that_cannot_be_read_can_be_mended(data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS[:2]) + b"{broken\n" + lines(ROWS[2:]))
    with pytest.raises(DatasetError, match="row 3"):
        edit.raw(registry, "it", 3)
    undo_id = edit.replace_row(registry, "it", 3, NEW)
    assert found(registry) == [*ROWS[:2], NEW, *ROWS[2:]]
    edit.undo(registry, undo_id)
    edit.delete_rows(registry, "it", [3])
    assert found(registry) == ROWS


def test_text_lines(data_dir: Path) -> None:
    (data_dir / "a.txt").write_bytes(b"one\ntwo\nthree")
    registry = Registry(data_dir)
    registry.add(describe("it", "a.txt", columns={"prompt": "text", "response": None}))
    edit.add_row(registry, "it", {"text": "four"})
    edit.replace_row(registry, "it", 2, {"text": " zwei"})
    assert (data_dir / "a.txt").read_bytes() == b"one\n zwei\nthree\nfour"
    for record in ({"text": "two\nlines"}, {"text": ""}, {"text": "x", "more": 1}, {"text": 3}):
        with pytest.raises(DatasetError, match="is one line"):
            edit.replace_row(registry, "it", 1, record)


def test_a_table_takes_its_own_columns_only(data_dir: Path) -> None:
    registry = made(data_dir, "a.csv", table(ROWS))
    edit.replace_row(registry, "it", 1, {"output": 'said "so", twice\nor more', "instruction": None})
    assert found(registry)[0] == {"instruction": "", "output": 'said "so", twice\nor more'}
    with pytest.raises(DatasetError, match=r"no column 'lang'; its columns are instruction, output"):
        edit.add_row(registry, "it", {"lang": "de"})


def test_parquet_keeps_its_schema(data_dir: Path) -> None:
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    records = [{"instruction": f"q{n}", "output": "a", "at": when, "n": n} for n in range(2500)]
    pq.write_table(pa.Table.from_pylist(records), data_dir / "a.parquet", row_group_size=700)
    registry = Registry(data_dir)
    registry.add(describe("it", "a.parquet"))
    shown = edit.raw(registry, "it", 1500)
    assert shown == {"instruction": "q1499", "output": "a", "at": "2026-01-02 03:04:05", "n": 1499}
    undo_id = edit.replace_row(registry, "it", 1500, {**shown, "output": "b"})
    edit.delete_rows(registry, "it", [1, 2500])
    edit.add_row(registry, "it", {"instruction": "q", "output": "a"}, after=0)
    table = pq.read_table(data_dir / "a.parquet")
    expected = [{"instruction": "q", "output": "a", "at": None, "n": None}, *records[1:-1]]
    expected[1499] = {**records[1499], "output": "b"}
    assert table.to_pylist() == expected
    assert table.schema.field("at").type == pa.timestamp("us")
    for record, said in (({"n": "many"}, "holds one type"), ({"more": 1}, "cannot hold this row")):
        with pytest.raises(DatasetError, match=said):
            edit.add_row(registry, "it", record)
    with pytest.raises(DatasetError, match="changed after that edit"):
        edit.undo(registry, undo_id)


@pytest.mark.parametrize("kind", ["gz", "folder", "utf-16", "arrow", "xlsx"])
def test_what_cannot_be_written_in_place_becomes_json_lines(kind: str, data_dir: Path) -> None:
    file_name = {"gz": "a.jsonl.gz", "folder": "a", "utf-16": "a.jsonl"}.get(kind, f"a.{kind}")
    if kind == "arrow":
        import pyarrow as pa

        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_file(data_dir / file_name, table.schema) as writer:
            writer.write_table(table)
    elif kind == "xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for cells in (("instruction", "output"), *(tuple(record.values()) for record in ROWS)):
            book.active.append(cells)
        book.save(data_dir / file_name)
    elif kind == "folder":
        (data_dir / "a").mkdir()
        (data_dir / "a" / "1.jsonl").write_bytes(lines(ROWS[:3]))
        (data_dir / "a" / "2.jsonl").write_bytes(lines(ROWS[3:]))
    else:
        packed = gzip.compress(lines(ROWS)) if kind == "gz" else lines(ROWS).decode().encode("utf-16")
        (data_dir / file_name).write_bytes(packed)
    registry = Registry(data_dir)
    registry.add(describe("it", file_name))
    before = edit.version(registry, "it")
    undo_id = edit.replace_row(registry, "it", 4, NEW)
    assert found(registry) == [*ROWS[:3], NEW, ROWS[4]]
    assert registry.entry("it").file_name == "a.jsonl"
    assert (data_dir / file_name).exists() == (kind == "utf-16")
    edit.undo(registry, undo_id)
    assert registry.entry("it").file_name == file_name
    assert found(registry) == ROWS
    assert edit.version(registry, "it") == before


def test_the_simple_form_keeps_its_words(data_dir: Path) -> None:
    (data_dir / "a.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    spec = {"path": "a.jsonl.gz", "instruction_column": "instruction", "output_column": "output", "note": "mine"}
    (data_dir / "dataset_info.json").write_text(json.dumps({"it": spec}))
    registry = Registry(data_dir)
    edit.delete_rows(registry, "it", [1])
    assert json.loads(registry.path.read_text()) == {"it": {**spec, "path": "a.jsonl"}}
    assert len(list(load(registry, "it"))) == 4


def test_what_was_changed_since_it_was_shown_is_not_touched(data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS))
    seen = edit.version(registry, "it")
    edit.delete_rows(registry, "it", [1], seen=seen)
    after = registry.file("it").read_bytes()
    for late in (
        lambda: edit.replace_row(registry, "it", 1, NEW, seen=seen),
        lambda: edit.delete_rows(registry, "it", [1], seen=seen),
        lambda: edit.add_row(registry, "it", NEW, seen=seen),
    ):
        with pytest.raises(DatasetError, match="changed since it was shown"):
            late()
    assert registry.file("it").read_bytes() == after


def test_edits_that_make_no_sense(data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS))
    for numbers, said in (([], "choose at least one row"), ([6], "no row 6: the rows are 1 to 5"), ([0], "no row 0")):
        with pytest.raises(DatasetError, match=said):
            edit.delete_rows(registry, "it", numbers)
    with pytest.raises(DatasetError, match="one row must stay"):
        edit.delete_rows(registry, "it", [1, 2, 3, 4, 5])
    with pytest.raises(DatasetNotFound, match="no edit 'x' is kept"):
        edit.undo(registry, "x")
    assert registry.file("it").read_bytes() == lines(ROWS)
    assert edit.history(registry, "it") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "line 1, column 2"), ("[]", "must be an object"), ("", "line 1"), ("[" * 5000, "line 1"), ('"x"', "object")],
)
def test_a_typed_row_that_is_no_object(text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        edit.parse(text)
    assert edit.parse('{"a": [18446744073709551617]}') == {"a": [18446744073709551617]}


def test_a_person_s_other_file_is_never_changed(data_dir: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(lines(ROWS))
    os.link(mine, data_dir / "a.jsonl")
    registry = Registry(data_dir)
    registry.add(describe("it", "a.jsonl"))
    edit.replace_row(registry, "it", 1, NEW)
    assert mine.read_bytes() == lines(ROWS)


def test_only_the_last_versions_are_kept(data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS))
    for number in range(KEPT_VERSIONS + 3):
        edit.replace_row(registry, "it", 1, {"instruction": str(number), "output": "a"})
    assert len(edit.history(registry, "it")) == KEPT_VERSIONS
    for each in edit.history(registry, "it"):
        edit.undo(registry, each.id)
    assert found(registry)[0]["instruction"] == "2"


WRITER = """
import sys
from pathlib import Path
from studio.datasets import Registry, edit
registry = Registry(Path(sys.argv[1]))
for number in range(15):
    edit.add_row(registry, "it", {"instruction": sys.argv[2], "output": str(number)})
"""


def test_edits_from_several_processes_lose_nothing(data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(data_dir), name], stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    counts = {name: [row["output"] for row in found(registry) if row["instruction"] == name] for name in "abc"}
    assert counts == {name: [str(number) for number in range(15)] for name in "abc"}


KILLED = """
import os, signal, sys
from pathlib import Path
from studio.datasets import Registry, edit
calls = 0
def die_at(step):
    real = getattr(os, step)
    def dying(*given, **named):
        os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    setattr(os, step, dying)
die_at(sys.argv[2])
edit.delete_rows(Registry(Path(sys.argv[1])), "it", [2])
"""


@pytest.mark.parametrize("step", ["copy_file_range", "fsync", "link", "replace"])
def test_a_killed_edit_leaves_the_set_as_it_was(step: str, data_dir: Path) -> None:
    registry = made(data_dir, "a.jsonl", lines(ROWS))
    before = registry.path.read_bytes()
    edit.raw(registry, "it", 1)  # the index is made here, not there
    done = subprocess.run([sys.executable, "-c", KILLED, str(data_dir), step], check=False)
    assert done.returncode == -9
    assert registry.file("it").read_bytes() == lines(ROWS)
    assert registry.path.read_bytes() == before
    undo_id = edit.delete_rows(registry, "it", [1])
    edit.undo(registry, undo_id)
    assert registry.file("it").read_bytes() == lines(ROWS)
