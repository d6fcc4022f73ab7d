from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.datasets.checks import check
from studio.datasets.entry import describe
from studio.errors import UploadError

Write = Callable[[str, Any], Path]
GOOD = {"instruction": "q", "output": "a"}


def rows(count: int) -> list[Any]:
    """Good rows, all different."""
    return [{"instruction": f"q{number}", "output": f"a{number}"} for number in range(count)]


def test_a_good_file(write: Write) -> None:
    report = check(write("a.jsonl", rows(3)))
    assert (report.rows, report.usable, report.shape, report.fatal) == (3, 3, "conversation", "")
    assert report.summary() == "3 rows, 3 usable"


def test_faulty_rows_are_counted_and_listed(write: Write) -> None:
    bad = {"instruction": "q", "output": ""}
    report = check(write("a.jsonl", rows(40) + [bad] * 30), describe("a", "a.jsonl"))
    assert (report.rows, report.usable, report.left_out, report.fatal) == (70, 40, 30, "")
    (finding,) = [finding for finding in report.findings if finding.code == "empty_field"]
    assert (finding.count, finding.rows, finding.repair) == (30, tuple(range(41, 61)), "drop_faulty")
    assert finding.examples[0] == "row 41: 'output' must not be empty"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"instruction": "q", "output": "a"}\n{"instr\n', "row 2 cannot be read: line 2, column 2"),
        ("a.json", '[{"instruction": "q", "output": "a"}, {"instr]', "row 2 cannot be read: line 1, column 40"),
        ("a.csv", "instruction,output\nq,a\nq\n", "row 2 cannot be read: (line 3) has 1 fields"),
        ("a.json", "[]", "the file has no rows"),
        ("a.csv", "instruction,output\n", "the file has no rows"),
        ("a.jsonl", '{"instruction": "q"}\n', "no row can be used"),
    ],
)
def test_what_is_fatal(name: str, content: str, said: str, write: Write) -> None:
    report = check(write(name, content), describe("a", name))
    assert said in report.fatal
    assert said in report.summary()


def test_columns_that_are_not_used_are_named(write: Write) -> None:
    report = check(write("a.jsonl", [GOOD, {**GOOD, "system": "S", "id": 1}]), describe("a", "a.jsonl"))
    assert report.ignored == ("system", "id")
    assert "Columns that are not used: 2" in report.summary()


def test_columns_nobody_can_tell_are_asked_about(write: Write) -> None:
    with pytest.raises(UploadError, match=r"not sure what its columns mean.*Say which column is which"):
        check(write("a.jsonl", [{"foo": "x", "bar": "y", "baz": "z"}]))
