"""Votes as a dataset: pairs of a chosen and a rejected answer, or the good answers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from studio.arena.votes import Side, Vote
from studio.datasets.entry import Entry
from studio.datasets.formats import Conversation, Message, Preference, Row, shaped, to_record
from studio.datasets.incoming import publish, workshop
from studio.datasets.registry import Registry
from studio.datasets.writing import write_jsonl
from studio.errors import DatasetError
from studio.files import safe_name

Use = Literal["preference", "answers"]
STAGES: dict[Use, str] = {"preference": "dpo", "answers": "sft"}
SHAPE = "openai"  # turns with their roles, as they were asked


@dataclass(frozen=True)
class Rows:
    """What votes come to. `left_out` counts votes that give no row, by the reason."""

    rows: tuple[Row, ...]
    left_out: dict[str, int]

    def __str__(self) -> str:
        """In words: 12 rows; left out: ties 3."""
        count = f"{len(self.rows)} row{'' if len(self.rows) == 1 else 's'}"
        reasons = ", ".join(f"{reason} {number}" for reason, number in self.left_out.items())
        return f"{count}; left out: {reasons}" if reasons else count


def rows(votes: Iterable[Vote], use: Use) -> Rows:
    """The rows that votes give: each decided one a pair, or its better answer."""
    kept: dict[Row, None] = {}
    left_out: Counter[str] = Counter()
    for vote in votes:
        if reason := _unfit(vote, use):
            left_out[reason] += 1
            continue
        row = _row(vote, use)
        left_out["said before"] += row in kept
        kept[row] = None
    return Rows(tuple(kept), {reason: number for reason, number in left_out.items() if number})


def register(registry: Registry, votes: Iterable[Vote], use: Use, name: str, origin: str) -> tuple[Entry, Rows]:
    """A new dataset of votes; `origin` says whose. A name that is taken gets a number.

    Raises:
        DatasetError: no vote gives a row, or the registry is damaged.
        UploadError: the disk is full.
    """
    found = rows(votes, use)
    if not found.rows:
        raise DatasetError(f"No vote says which answer is better, so there is nothing to learn from ({found})")
    entry = shaped(name.strip(), SHAPE, type(found.rows[0]))
    entry = replace(entry, origin={"operation": "votes", "of": [origin], "left_out": found.left_out})
    with workshop(registry.data_dir, name) as folder:
        path = folder / safe_name(f"{name.strip()}.jsonl")
        write_jsonl(path, lambda: [to_record(SHAPE, row) for row in found.rows])
        return publish(registry, [(path, entry)])[0], found


def _unfit(vote: Vote, use: Use) -> str:
    """Why a vote gives no row; empty where it does."""
    if vote.winner is None or vote.loser is None:
        return {"tie": "ties", "both_bad": "both bad"}[vote.outcome]
    if not vote.winner.answer.strip():
        return "empty answers"
    if use == "preference" and not vote.loser.answer.strip():
        return "empty answers"
    return "the same answer twice" if vote.winner.answer == vote.loser.answer else ""


def _row(vote: Vote, use: Use) -> Row:
    assert vote.winner
    assert vote.loser
    if use == "preference":
        return Preference(_asked(vote), _said(vote.winner), _said(vote.loser), vote.tools or None)
    return Conversation((*_asked(vote), _said(vote.winner)), vote.tools or None)


def _asked(vote: Vote) -> tuple[Message, ...]:
    system = (Message("system", vote.system),) if vote.system.strip() else ()
    return (*system, *(Message(turn["role"], turn["content"]) for turn in vote.messages))


def _said(side: Side) -> Message:
    return Message("assistant", side.answer)
