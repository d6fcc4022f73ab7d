"""What an export found out about its result: one value, written as report.json for programs and report.md for people.

The page draws the same sections, so a new kind of export needs no code there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from studio.files import finite, read_record, write_json, write_text


@dataclass(frozen=True)
class Table:
    """Columns and rows of texts. With `chart`, the names of columns whose numbers are worth drawing beside it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    chart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """One prompt and two answers to it that should be the same."""

    prompt: str
    wanted: str
    got: str


@dataclass(frozen=True)
class Section:
    """A headline with some of: a sentence, figures (label, value), a table, pairs of answers."""

    title: str
    text: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    answers: tuple[Answer, ...] = ()
    labels: tuple[str, str] = ("wanted", "got")


@dataclass(frozen=True)
class Report:
    """`verdict` is one sentence; `passed` whether the result may be used; `facts` the numbers for programs."""

    title: str
    verdict: str
    passed: bool
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def write(report: Report, folder: Path) -> None:
    """report.json and report.md."""
    write_json(folder / "report.json", finite(asdict(report)))
    write_text(folder / "report.md", markdown(report))


def read(folder: Path) -> Report | None:
    """The report in `folder`, None where there is none of this shape."""
    record = read_record(folder / "report.json")
    if "sections" not in record:
        return None
    return Report(**{**record, "sections": tuple(map(_section, record["sections"]))})


def markdown(report: Report) -> str:
    """The report as a page."""
    return (
        "\n\n".join([f"# {report.title}", report.verdict, *(part for each in report.sections for part in _told(each))])
        + "\n"
    )


def _told(section: Section) -> list[str]:
    parts = [f"## {section.title}", section.text]
    if section.figures:
        parts.append(_grid(("", ""), section.figures))
    if section.table:
        parts.append(_grid(section.table.columns, section.table.rows))
    if section.answers:
        rows = tuple((each.prompt, each.wanted, each.got) for each in section.answers)
        parts.append(_grid(("prompt", *section.labels), rows))
    return [part for part in parts if part]


def _grid(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    head = [columns, ("---",) * len(columns)]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in [*head, *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _section(record: dict[str, Any]) -> Section:
    table = record["table"]
    return Section(
        title=record["title"],
        text=record["text"],
        figures=tuple((label, value) for label, value in record["figures"]),
        table=table and Table(tuple(table["columns"]), tuple(map(tuple, table["rows"])), tuple(table["chart"])),
        answers=tuple(Answer(**each) for each in record["answers"]),
        labels=(record["labels"][0], record["labels"][1]),
    )
