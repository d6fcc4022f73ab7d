"""What rows become for each kind of training: columns of token ids, for one row of a dataset one or several.

All is rendered, masked and cut by `encode`, as the page shows it. Only text to go on with loses nothing: what is longer
than the cutoff is carried on in further rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol, TypeAlias, cast

import pyarrow
from transformers import PreTrainedTokenizerBase

from studio.datasets.formats import Feedback, Row
from studio.datasets.masking import Masking
from studio.worker.encode import (
    IGNORED,
    Encoded,
    Flaw,
    Labelled,
    Numbered,
    encode,
    flaw_of,
    kept_places,
    label,
    sequences,
)
from studio.worker.prompts import prompted

NumberedRow: TypeAlias = tuple[int, Row]
IDS = pyarrow.list_(pyarrow.int32())
ROW = "row"  # which row of the dataset a sequence comes of: several may come of one


class EncodedRow(Protocol):
    """One row of the columns, of row number `row`. `cut` tokens fell off; `lost` is as in `Encoded`."""

    @property
    def row(self) -> int: ...

    @property
    def cut(self) -> int: ...

    @property
    def lost(self) -> str: ...

    @property
    def flaw(self) -> Flaw: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, the better one first."""

    row: int
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    cut: int
    lost: str = ""

    @property
    def flaw(self) -> Flaw:
        """Why it teaches nothing."""
        if not (self.chosen_ids and self.rejected_ids):
            return flaw_of(self.cut, self.lost)
        return "alike" if self.chosen_ids == self.rejected_ids else ""


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer that was found good (`label`) or bad."""

    row: int
    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool
    cut: int
    lost: str = ""

    @property
    def flaw(self) -> Flaw:
        """Why it teaches nothing."""
        return "" if self.completion_ids else flaw_of(self.cut, self.lost)


@dataclass(frozen=True)
class Columns:
    """How numbered rows are encoded, and what is kept of the results."""

    encode: Callable[[Iterable[NumberedRow], PreTrainedTokenizerBase, Masking], Iterator[EncodedRow]]
    schema: pyarrow.Schema

    def values(self, rows: Sequence[EncodedRow]) -> list[list[Any]]:
        """The values of each column, in the order of the schema."""
        return [[getattr(row, name) for row in rows] for name in self.schema.names]


def _documents(
    rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> Iterator[EncodedRow]:
    """Text, or conversations as the template writes them, of which every token is learnt."""
    size, whole = masking.cutoff_len, replace(masking, train_on_prompt=True, mask_history=True)
    for row in label(cast(Iterable[Numbered], rows), tokenizer, whole):
        for begin in range(0, max(1, len(row.ids) - 1), size):
            ids = row.ids[begin : begin + size]
            labels = [IGNORED] * len(ids) if row.lost else [IGNORED, *ids[1:]]
            yield Encoded(row.number, ids, labels, cut=0, lost=row.lost)


def _pairs(rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[EncodedRow]:
    for row, (chosen, rejected) in _answers(rows, tokenizer, masking):
        yield _pair(chosen, rejected, kept_places(row, (chosen, rejected), masking.cutoff_len))


def _pair(chosen: Labelled, rejected: Labelled, kept: range) -> Pair:
    begin = min(chosen.answer.start, rejected.answer.start)
    # tokens may run over the end of the prompt: the answers begin where the two part
    shared = zip(chosen.ids[:begin], rejected.ids[:begin], strict=True)
    begin = next((place for place, (one, other) in enumerate(shared) if one != other), begin)
    better, worse = (row.ids[begin : min(row.answer.stop, kept.stop)] for row in (chosen, rejected))
    cut = kept.start + sum(max(0, row.answer.stop - kept.stop) for row in (chosen, rejected))
    prompt, lost = chosen.ids[kept.start : begin], chosen.lost or rejected.lost
    return Pair(chosen.number, prompt, better, worse, cut, lost)


def _judged(rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[EncodedRow]:
    for row, parts in _answers(rows, tokenizer, masking):
        kept = kept_places(row, parts, masking.cutoff_len)
        verdicts = (row.good,) if isinstance(row, Feedback) else (True, False)
        for part, good in zip(parts, verdicts, strict=True):
            begin, end = part.answer.start, part.answer.stop
            cut = kept.start + max(0, end - kept.stop)
            prompt, answer = part.ids[kept.start : begin], part.ids[begin : min(end, kept.stop)]
            yield Judged(part.number, prompt, answer, good, cut, part.lost)


def _answers(
    rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> Iterator[tuple[Row, list[Labelled]]]:
    """Rows with their judged answers, each answer behind its conversation."""
    waiting: deque[Row] = deque()
    last_only = replace(masking, mask_history=True, train_on_prompt=False)

    def conversations() -> Iterator[Numbered]:
        for number, row in rows:
            waiting.append(row)
            yield from ((number, sequence) for _, sequence, _ in sequences(row, masking))

    for _, parts in groupby(label(conversations(), tokenizer, last_only), key=attrgetter("number")):
        yield waiting.popleft(), list(parts)


def _schema(**columns: pyarrow.DataType) -> pyarrow.Schema:
    return pyarrow.schema({ROW: pyarrow.int64(), **columns})


SEQUENCE = _schema(input_ids=IDS, labels=IDS)
PAIR = _schema(prompt_ids=IDS, chosen_ids=IDS, rejected_ids=IDS)
JUDGED = _schema(prompt_ids=IDS, completion_ids=IDS, label=pyarrow.bool_())
PROMPT = _schema(prompt_ids=IDS, prompt=pyarrow.string(), reference=pyarrow.string())
COLUMNS = {
    "sequence": Columns(cast(Any, encode), SEQUENCE),
    "document": Columns(_documents, SEQUENCE),
    "pair": Columns(_pairs, PAIR),
    "judged": Columns(_judged, JUDGED),
    "prompt": Columns(cast(Any, prompted), PROMPT),
}
