"""One kind of thing that a check found in a file, and how it is collected row by row."""

from __future__ import annotations

from dataclasses import dataclass, field

from studio.datasets.checks.codes import CODES, Severity

LISTED_ROWS = 20
EXAMPLES = 5
EXAMPLE_CHARS = 240


@dataclass(frozen=True)
class Finding:
    """`count` rows with the same thing to say about them; `rows` are the first numbers, `examples` sentences.

    `code` is a key of CODES, where the severity, the words and the repair come from (see `describe`).
    """

    code: str
    severity: Severity
    title: str
    count: int
    rows: tuple[int, ...]
    examples: tuple[str, ...]
    advice: str
    repair: str = ""


def describe(code: str, count: int, rows: tuple[int, ...] = (), examples: tuple[str, ...] = ()) -> Finding:
    """The finding called `code`, with what the table says about it."""
    kind = CODES[code]
    return Finding(code, kind.severity, kind.en.title, count, rows, examples, kind.en.advice, kind.repair)


@dataclass
class Sightings:
    """A finding that is still being collected."""

    count: int = 0
    rows: list[int] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def see(self, row: int, example: str) -> None:
        """Another row; `example` is a sentence about it."""
        self.count += 1
        if len(self.rows) < LISTED_ROWS:
            self.rows.append(row)
        if len(self.examples) < EXAMPLES:
            self.examples.append(example if len(example) <= EXAMPLE_CHARS else example[:EXAMPLE_CHARS] + "…")

    def finding(self, code: str) -> Finding:
        return describe(code, self.count, tuple(self.rows), tuple(self.examples))
