import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets.checks import Report, check, keep, stored
from studio.datasets.checks.finding import EXAMPLE_CHARS, EXAMPLES, LISTED_ROWS, Sightings
from studio.datasets.entry import describe

Write = Callable[[str, Any], Path]
ENTRY = describe("a", "a.jsonl")
BAD = [{"instruction": "q", "output": ""}, {"instruction": "q", "output": "caf\u00c3\u00a9"}]


def test_a_report_comes_back_from_json(write: Write) -> None:
    report = check(write("a.jsonl", BAD), ENTRY)
    told = json.loads(json.dumps(report.to_json()))
    assert told["findings"][0]["severity"] == "warning"
    assert told["findings"][0]["repair"] == "drop_faulty"
    assert Report.from_json(told) == report


def test_a_report_is_kept_for_the_same_file_read_in_the_same_way(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", BAD)
    assert stored(path, ENTRY, tmp_path / "cache") is None
    report = check(path, ENTRY)
    keep(path, ENTRY, report, tmp_path / "cache")
    assert stored(path, ENTRY, tmp_path / "cache") == report
    other = describe("a", "a.jsonl", columns={"prompt": "output", "response": "instruction"})
    assert stored(path, other, tmp_path / "cache") is None
    path.write_text(path.read_text() + "\n")
    assert stored(path, ENTRY, tmp_path / "cache") is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rows": 1}', '{"rows":1,"findings":[{"code":"gone"}]}'])
def test_a_damaged_report_is_none(damage: str, write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", BAD)
    keep(path, ENTRY, check(path, ENTRY), tmp_path)
    (kept,) = tmp_path.glob("check-*.json")
    kept.write_text(damage)
    assert stored(path, ENTRY, tmp_path) is None


def test_the_summary_begins_with_what_is_fatal(write: Write) -> None:
    report = check(write("a.jsonl", '{"instruction": "q", "output": "a"}\n{"instr\n'), ENTRY)
    lines = report.summary().splitlines()
    assert lines[0] == report.fatal
    assert lines[0].startswith("row 2 cannot be read: line 2, column 2")
    assert lines[1].startswith("fatal: Rows that cannot be read: 1 (row 2). Mend them")


def test_of_many_sightings_the_first_are_listed() -> None:
    sightings = Sightings()
    for row in range(1, 101):
        sightings.see(row, "x" * 1000)
    finding = sightings.finding("mojibake")
    assert (finding.count, finding.rows) == (100, tuple(range(1, LISTED_ROWS + 1)))
    assert len(finding.examples) == EXAMPLES
    assert max(map(len, finding.examples)) == EXAMPLE_CHARS + 1
