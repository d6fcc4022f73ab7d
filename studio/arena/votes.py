"""Votes on two answers to one prompt, in a file of lines that is only ever appended to."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal, get_args

from studio.errors import VoteError
from studio.files import append_line, read_since, reason_of
from studio.runs.events import parse

Outcome = Literal["left", "right", "tie", "both_bad"]
Source = Literal["arena", "compare"]
Message = Mapping[str, str]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Side:
    """An answer and whose it is. `name` is for people; `pick` is the model, adapter or run that can be asked again."""

    name: str
    pick: str
    answer: str


@dataclass(frozen=True)
class Vote:
    """What somebody thinks of two answers.

    `id` names what was voted on: a later vote of the same id takes the place of an earlier one. `messages` are the
    turns up to the prompt, without the system prompt. `at` is in unix seconds. `judge` is the pick of a model that
    voted; empty for a person. `tools` is a JSON list, or empty.
    """

    id: str
    source: Source
    messages: tuple[Message, ...]
    left: Side
    right: Side
    outcome: Outcome
    blind: bool
    at: float
    system: str = ""
    category: str = ""
    judge: str = ""
    tools: str = ""

    @property
    def winner(self) -> Side | None:
        """The better answer, if one is."""
        return {"left": self.left, "right": self.right}.get(self.outcome)

    @property
    def loser(self) -> Side | None:
        """The worse answer, if one is."""
        return {"left": self.right, "right": self.left}.get(self.outcome)


class Ledger:
    """The votes in one file. Several pages may add to it at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, vote: Vote) -> None:
        """Add a vote; it is in the file when this returns.

        Raises:
            VoteError: the disk is full, or the file cannot be written.
        """
        self._add(asdict(vote))

    def withdraw(self, vote_id: str) -> None:
        """Take the vote on `vote_id` back.

        Raises:
            VoteError: as `append`.
        """
        self._add({"id": vote_id, "withdrawn": True, "at": time.time()})

    def read(self) -> list[Vote]:
        """What is voted now, in the order of the votes: of each id the last, unless it was withdrawn. Lines that are
        no votes are passed over."""
        lines, _ = read_since(self.path, 0)
        last: dict[str, dict[str, Any]] = {}
        for line in parse(lines):
            last.pop(str(line.get("id")), None)  # a vote that was changed is a new one, and the last
            last[str(line.get("id"))] = line
        return [vote for line in last.values() if (vote := _vote(line))]

    def _add(self, line: dict[str, Any]) -> None:
        try:
            with open(self.path, "ab+", buffering=0) as file:
                # a line that another page is writing must not be taken for a torn one
                fcntl.flock(file, fcntl.LOCK_EX)
                _end_line(file)
                append_line(self.path, line)
        except OSError as error:
            raise VoteError(f"The vote could not be written to {self.path}: {reason_of(error)}") from error


def _end_line(file: FileIO) -> None:
    """A line that a power cut tore must not take the next one with it."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _vote(line: dict[str, Any]) -> Vote | None:
    try:
        sides = {side: Side(**line[side]) for side in ("left", "right")}
        vote = Vote(**{**line, **sides, "messages": tuple(line["messages"])})
    except (KeyError, TypeError):
        return None
    return vote if vote.outcome in OUTCOMES else None
