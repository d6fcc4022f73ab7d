import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets import Registry, preview
from studio.datasets.entry import describe
from studio.errors import DatasetError, DatasetNotFound, UploadError

Write = Callable[[str, Any], Path]


def numbered(count: int) -> str:
    return "".join(json.dumps({"instruction": f"q{number}", "output": "a"}) + "\n" for number in range(1, count + 1))


@pytest.fixture
def registry(data_dir: Path) -> Registry:
    (data_dir / "a.jsonl").write_text(numbered(10_000))
    registry = Registry(data_dir)
    registry.add(describe("a", "a.jsonl"))
    return registry


def asked(page: preview.Page) -> list[str]:
    return [row.turns[0].content for row in page.rows]


def test_pages(registry: Registry) -> None:
    first = preview.page(registry, "a", 0, 3)
    assert (asked(first), first.total) == (["q1", "q2", "q3"], 10_000)
    assert asked(preview.page(registry, "a", 9000, 2)) == ["q9001", "q9002"]
    assert asked(preview.page(registry, "a", 9998, 10)) == ["q9999", "q10000"]
    assert asked(preview.page(registry, "a", 50_000)) == []
    assert asked(preview.page(registry, "a", -5, 1)) == ["q1"]


def test_one_row_as_the_worker_reads_it(registry: Registry) -> None:
    scanned, total = preview.row(registry, "a", 9000)
    assert (scanned.mark.row, total) == (9000, 10_000)
    assert scanned.record == {"instruction": "q9000", "output": "a"}
    with pytest.raises(DatasetError, match="no row 10,001: a has 10,000 rows"):
        preview.row(registry, "a", 10_001)


def test_a_large_file_shows_its_first_page_before_it_is_counted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "COUNTED_BYTES", 1000)
    first = preview.page(registry, "a", 0, 2)
    assert (asked(first), first.total) == (["q1", "q2"], None)
    assert preview.count(registry, "a") == 10_000
    assert preview.page(registry, "a", 0, 2).total == 10_000


def test_a_page_in_the_middle_reads_only_there(registry: Registry) -> None:
    preview.count(registry, "a")
    path = registry.file("a")
    # same size and time: the index holds, and what was before the page is never looked at
    status = path.stat()
    with open(path, "r+b") as file:
        file.write(b"\xff" * len(numbered(4000)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert asked(preview.page(registry, "a", 9600, 2)) == ["q9601", "q9602"]


def test_faults_stand_in_their_place(data_dir: Path) -> None:
    (data_dir / "b.jsonl").write_text('{"instruction": "q", "output": ""}\n{broken\n' + numbered(1))
    registry = Registry(data_dir)
    registry.add(describe("b", "b.jsonl"))
    empty, broken, good = preview.page(registry, "b").rows
    assert empty.error == "'output' must not be empty"
    assert '"instruction": "q"' in empty.raw
    assert (broken.row, broken.line, broken.raw, broken.turns) == (2, 2, "{broken", ())
    assert "line 2, column 2" in broken.error
    assert (good.row, good.error) == (3, "")


def test_the_row_that_ends_a_broken_list_is_shown(data_dir: Path) -> None:
    (data_dir / "b.json").write_text('[{"instruction": "q", "output": "a"}, {"instruction"]')
    registry = Registry(data_dir)
    registry.add(describe("b", "b.json"))
    page = preview.page(registry, "b")
    assert page.total == 2
    assert "expected ':'" in page.rows[1].error


def test_every_shape_has_turns_to_draw(public_data: Path) -> None:
    registry = Registry(public_data)
    roles = {}
    for name in ("identity", "dpo_en_demo", "kto_en_demo", "wiki_demo"):
        (shown,) = preview.sample(registry.file(name), registry.entry(name), 1)
        roles[name] = ([turn.role for turn in shown.turns], shown.label)
    assert roles == {
        "identity": (["user", "assistant"], ""),
        "dpo_en_demo": (["user", "chosen", "rejected"], ""),
        "kto_en_demo": (["user", "assistant"], "good"),
        "wiki_demo": (["text"], ""),
    }


def test_a_huge_turn_is_cut_for_the_page(write: Write) -> None:
    path = write("a.txt", "x" * 1_000_000)
    (shown,) = preview.sample(path, describe("a", "a.txt", columns={"prompt": "text"}))
    assert shown.turns[0].content.endswith("… (992000 more characters)")
    assert len(shown.raw) <= preview.SHOWN_CHARS


def test_a_deep_row_is_no_traceback(write: Write) -> None:
    path = write("a.jsonl", '{"text": "x", "deep": ' + "[" * 1000 + "]" * 1000 + "}\n")
    (shown,) = preview.sample(path, describe("a", "a.jsonl", columns={"prompt": "text"}))
    assert "nested too deeply" in shown.error
    assert shown.raw.startswith('{"text": "x", "deep": [[[')


def test_what_cannot_be_shown_says_why(registry: Registry) -> None:
    with pytest.raises(DatasetNotFound):
        preview.page(registry, "nothing")
    (registry.data_dir / "a.jsonl").write_bytes(b"\x00\x01\x02")
    with pytest.raises(UploadError, match="not text"):
        preview.page(registry, "a")
