"""What is odd about single rows of a file, and about all of them together, collected in one pass.

What looks at texts waits until a batch of rows is there: one look over many is far cheaper than many looks.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from studio.datasets.checks.characters import matches
from studio.datasets.checks.codes import CODES
from studio.datasets.checks.content import ANSWERS, SPOKEN, Content, alone, shape_of
from studio.datasets.checks.duplicates import Places, hash_of, largest, repeats
from studio.datasets.checks.finding import EXAMPLES, LISTED_ROWS, Finding, Sightings, describe
from studio.datasets.entry import Entry
from studio.datasets.loading import Fault
from studio.datasets.placeholders import CODES_OF
from studio.datasets.reading import Record, duplicate_keys

BATCH_ROWS = 64  # so many texts fit into the processor's cache
BATCH_CHARS = 1 << 20
LONG_CHARS = 100_000  # some 25,000 tokens
# an answer counts as repeated when so many rows have it, and it is no label: those are meant to repeat
REPEATED_ROWS = 10
REPEATED_SHARE = 0.01
LABEL_CHARS = 40
SHOWN_CHARS = 40


class Tally:
    """What has been seen of a file so far; `see` takes its rows in order."""

    def __init__(self, entry: Entry) -> None:
        self.rows = 0
        self.faulty = 0
        self.shape = ""
        self.repeating: Places = np.zeros(0, np.int64)  # rows, once there are findings
        self._used = set(entry.columns.values())
        self._fields: dict[str, None] = {}
        self._sightings: defaultdict[str, Sightings] = defaultdict(Sightings)
        self._judgements: set[str] = set()
        # place n is row n + 1: what it says, and its last answer
        self._hashes, self._answers = array("q"), array("q")
        self._batch: list[tuple[int, Content, str]] = []
        self._chars = 0

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns that nothing is read from."""
        return tuple(name for name in self._fields if name not in self._used)

    def see(self, row: int, record: Record | None, found: Content | Fault) -> None:
        """The next row."""
        self.rows = row
        if record is not None:
            self._see_fields(row, record)
        content = self._see_fault(found) if isinstance(found, Fault) else found
        text = "\n".join(content[1])
        self._batch.append((row, content, text))
        self._chars += len(text)
        if len(self._batch) == BATCH_ROWS or self._chars > BATCH_CHARS:
            self._look_over()

    def findings(self) -> dict[str, Finding]:
        """Everything that was found, by code."""
        self._look_over()
        found = [seen.finding(code) for code, seen in self._sightings.items()]
        return {finding.code: finding for finding in (*found, *self._of_all_rows())}

    def _see_fields(self, row: int, record: Record) -> None:
        if not record.keys() <= self._fields.keys():
            self._fields.update(dict.fromkeys(record))
        if type(record) is not dict and (doubled := duplicate_keys(record)):
            self._note("duplicate_keys", row, ", ".join(map(repr, doubled)))

    def _see_fault(self, fault: Fault) -> Content:
        self.faulty += 1
        cannot = " cannot be read" if fault.fatal else ""
        code = "unreadable" if fault.fatal and CODES[fault.code].severity != "fatal" else fault.code
        self._sightings[code].see(fault.row, f"row {fault.row}{cannot}: {fault.what}")
        return alone(fault.row)

    def _look_over(self) -> None:
        """What the texts of the waiting rows hold."""
        batch, self._batch, self._chars = self._batch, [], 0
        self.shape = self.shape or next((shape_of(roles) for _, (roles, _, _), _ in batch if roles != "!"), "")
        self._hashes.extend([hash_of(content) for _, content, _ in batch])
        self._answers.extend([_answer_hash(row, content) for row, content, _ in batch])
        self._judgements.update([content[0][-1] for _, content, _ in batch])
        for row, content, text in batch:
            if content[2]:
                self._see_padding(row, content)
            if len(text) > LONG_CHARS:
                self._note("long_row", row, f"{len(text):,} characters")
        for number, code, match in matches([text for _, _, text in batch]):
            row, content, _ = batch[number]
            for each in (_filled_in(content) if code == "placeholder" else []) or [code]:
                self._note(each, row, _excerpt(match))

    def _see_padding(self, row: int, content: Content) -> None:
        roles, texts, _ = content
        answers = [text for role, text in zip(roles, texts, strict=False) if role in ANSWERS]
        if padded := [answer for answer in answers if answer != answer.strip()]:
            self._note("padded_answer", row, f"{padded[0][:SHOWN_CHARS]!r} … {padded[0][-SHOWN_CHARS:]!r}")

    def _note(self, code: str, row: int, what: str) -> None:
        self._sightings[code].see(row, f"row {row}: {what}")

    def _of_all_rows(self) -> Iterator[Finding]:
        if not self.rows:
            yield describe("no_rows", 0)
        elif self.faulty == self.rows:
            yield describe("nothing_usable", self.rows)
        if self.ignored:
            yield describe("unused_columns", len(self.ignored), examples=(", ".join(self.ignored),))
        if len(self._judgements & {"+", "-"}) == 1:
            judged = "good" if "+" in self._judgements else "bad"
            yield describe("one_label", self.rows - self.faulty, examples=(f"every answer is judged {judged}",))
        later, origins = repeats(self._hashes)
        self.repeating = later + 1
        if later.size:
            yield repetition("duplicate_rows", self.repeating, origins + 1)
        count, places = largest(self._answers)
        if count >= max(REPEATED_ROWS, REPEATED_SHARE * self.rows):
            yield describe("repeated_answer", count, tuple((places[:LISTED_ROWS] + 1).tolist()))


def repetition(code: str, rows: Places, origins: Places) -> Finding:
    """The finding that each of `rows` repeats that of `origins`."""
    listed = list(zip(rows[:LISTED_ROWS].tolist(), origins[:LISTED_ROWS].tolist(), strict=True))
    examples = tuple(f"row {row} repeats row {origin}" for row, origin in listed[:EXAMPLES])
    return describe(code, rows.size, tuple(row for row, _ in listed), examples)


def _answer_hash(row: int, content: Content) -> int:
    """The same for rows with the same last answer; a label, and a text to go on with, is an answer like no other."""
    roles, texts, _ = content
    place = roles.rfind("a")
    return hash(texts[place]) if place >= 0 and len(texts[place]) > LABEL_CHARS else row


def _filled_in(content: Content) -> list[str]:
    """The codes of the placeholders that a training fills in, where someone says them."""
    said = [text for role, text in zip(*content[:2], strict=False) if role in SPOKEN]
    return [code for mark, code in CODES_OF.items() if any(mark in text for text in said)]


def _excerpt(match: re.Match[str]) -> str:
    start, end = match.span()
    around = match.string[max(0, start - SHOWN_CHARS) : end + SHOWN_CHARS].replace("\n", " ")
    # what cannot be seen is spelled out
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in around)
