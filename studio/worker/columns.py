"""What rows become for each kind of training: columns of token ids, for one row of a dataset one or several.

All is rendered, masked and cut by `encode`, as the page shows it: what is longer than the cutoff loses its end. Only
text to go on with loses nothing: it is carried on in further rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, cast

import pyarrow
from transformers import PreTrainedTokenizerBase

from studio.datasets.formats import Row
from studio.datasets.masking import Masking
from studio.worker.encode import IGNORED, Encoded, Flaw, Labelled, Numbered, encode, flaw_of, label, sequences
from studio.worker.prompts import prompted

NumberedRow: TypeAlias = tuple[int, Row]
IDS = pyarrow.list_(pyarrow.int32())


class EncodedRow(Protocol):
    """One row of the columns. `cut` tokens fell off; `lost` is as in `Encoded`."""

    @property
    def cut(self) -> int: ...

    @property
    def lost(self) -> str: ...

    @property
    def flaw(self) -> Flaw: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, the better one first."""

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
            yield Encoded(ids, labels, cut=0, lost=row.lost)


def _pairs(rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[EncodedRow]:
    answers = (row for row, _ in _answers(rows, tokenizer, masking))
    for chosen, rejected in zip(answers, answers, strict=True):
        yield _pair(chosen, rejected, masking.cutoff_len)


def _pair(chosen: Labelled, rejected: Labelled, cutoff_len: int) -> Pair:
    begin = min(_begin(chosen), _begin(rejected))
    # tokens may run over the end of the prompt: the answers begin where the two part
    shared = zip(chosen.ids[:begin], rejected.ids[:begin], strict=True)
    begin = next((place for place, (one, other) in enumerate(shared) if one != other), begin)
    better, worse = (row.ids[begin : min(_end(row), cutoff_len)] for row in (chosen, rejected))
    cut = sum(max(0, _end(row) - cutoff_len) for row in (chosen, rejected))
    return Pair(chosen.ids[:begin], better, worse, cut, chosen.lost or rejected.lost)


def _judged(rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[EncodedRow]:
    for row, good in _answers(rows, tokenizer, masking):
        begin, end = _begin(row), _end(row)
        kept = row.ids[begin : min(end, masking.cutoff_len)]
        yield Judged(row.ids[:begin], kept, good, max(0, end - masking.cutoff_len), row.lost)


def _answers(
    rows: Iterable[NumberedRow], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> Iterator[tuple[Labelled, bool]]:
    """The judged answers of rows, each with its conversation, and whether it is a good one."""
    verdicts: deque[bool] = deque()
    last_only = replace(masking, mask_history=True, train_on_prompt=False)

    def conversations() -> Iterator[Numbered]:
        for number, row in rows:
            for name, sequence, _ in sequences(row, masking):
                verdicts.append(name in ("chosen", "good"))
                yield number, sequence

    for row in label(conversations(), tokenizer, last_only):
        yield row, verdicts.popleft()


def _begin(row: Labelled) -> int:
    """Where the answer begins: behind all other tokens if there is none."""
    return row.first_trained - 1 if row.first_trained else len(row.ids)


def _end(row: Labelled) -> int:
    """Where the answer ends; templates write a line end or the like behind it."""
    return next((place for place in range(len(row.labels), 0, -1) if row.labels[place - 1] != IGNORED), 0)


PAIR = Columns(_pairs, pyarrow.schema([(name, IDS) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]))
JUDGED = Columns(_judged, pyarrow.schema([("prompt_ids", IDS), ("completion_ids", IDS), ("label", pyarrow.bool_())]))
PROMPT = Columns(
    cast(Any, prompted),
    pyarrow.schema([("prompt_ids", IDS), ("prompt", pyarrow.string()), ("reference", pyarrow.string())]),
)
SEQUENCE_SCHEMA = pyarrow.schema([(name, IDS) for name in ("input_ids", "labels")])
COLUMNS = {
    "sequence": Columns(cast(Any, encode), SEQUENCE_SCHEMA),
    "document": Columns(_documents, SEQUENCE_SCHEMA),
    "pair": PAIR,
    "judged": JUDGED,
    "prompt": PROMPT,
}
