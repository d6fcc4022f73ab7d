"""What an arena has so far: its prompts, the answers to them, and the battles that follow.

    prompts.jsonl    worker   what is asked, drawn once
    answers.jsonl    worker   one line an answer, or why there is none
    verdicts.jsonl   worker   what the judge said
    votes.jsonl      studio   what people said

All but the prompts are only appended to, so an arena that was stopped goes on where it was.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

from studio.arena.prompts import Prompt
from studio.arena.votes import Ledger, Outcome, Side, Vote
from studio.config.arena import ArenaConfig
from studio.errors import RunError
from studio.files import append_line, read_since
from studio.runs import events
from studio.runs.run import Run

PROMPTS, ANSWERS, VERDICTS, VOTES = "prompts.jsonl", "answers.jsonl", "verdicts.jsonl", "votes.jsonl"


@dataclass(frozen=True)
class Answer:
    """What a contestant said to the prompt of that number. `error` says why there is no answer."""

    prompt: int
    contestant: str
    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    finish_reason: str = ""
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the judge said of a battle, in each order; `outcome` is None where it gave none, and `why` says why."""

    id: str
    outcome: Outcome | None
    texts: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Battle:
    """Two answers to one prompt, on sides drawn by chance."""

    id: str
    prompt: Prompt
    left: Answer
    right: Answer

    @property
    def is_alike(self) -> bool:
        """Whether both say the same, so that there is nothing to vote on."""
        return self.left.text.strip() == self.right.text.strip()

    def vote(self, outcome: Outcome, names: Mapping[str, str], blind: bool = True, judge: str = "") -> Vote:
        """A vote on it; `names` tells what each contestant is called."""
        left, right = (Side(names[each.contestant], each.contestant, each.text) for each in (self.left, self.right))
        prompt = self.prompt
        return Vote(
            self.id, "arena", prompt.messages, left, right, outcome, blind, time.time(), prompt.system,
            prompt.category, judge,
        )  # fmt: skip


@dataclass(frozen=True)
class Arena:
    """The files of one arena."""

    folder: Path
    config: ArenaConfig

    @classmethod
    def of(cls, run: Run) -> Arena:
        """The arena in a run's directory.

        Raises:
            RunError: it is a run of another kind.
        """
        if not isinstance(config := run.config, ArenaConfig):
            raise RunError(f"{run.id} is a run of kind {run.kind}, not an arena")
        return cls(run.path, config)

    @property
    def ledger(self) -> Ledger:
        """What people voted."""
        return Ledger(self.folder / VOTES)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What is asked; empty before it is drawn."""
        return tuple(Prompt(**{**line, "messages": tuple(line["messages"])}) for line in self._lines(PROMPTS))

    def draw(self, prompts: Sequence[Prompt]) -> None:
        """Write down what is asked."""
        events.write(self.folder / PROMPTS, (asdict(prompt) for prompt in prompts))

    def add(self, found: Answer | Verdict) -> None:
        """Write down what came in.

        Raises:
            OSError: the disk is full.
        """
        append_line(self.folder / (ANSWERS if isinstance(found, Answer) else VERDICTS), asdict(found))

    @property
    def answers(self) -> dict[tuple[int, str], Answer]:
        """By number of the prompt and contestant. A failed one was tried again if it was answered since."""
        return {(line["prompt"], line["contestant"]): Answer(**line) for line in self._lines(ANSWERS)}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """By battle."""
        return {line["id"]: Verdict(**{**line, "texts": tuple(line["texts"])}) for line in self._lines(VERDICTS)}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each two contestants."""
        return list(combinations(self.config.contestants, 2))

    @property
    def battles(self) -> list[Battle]:
        """Every two answers that there are to vote on, in the order of the prompts."""
        return [battle for battle in self.meetings if not battle.is_alike]

    @property
    def meetings(self) -> list[Battle]:
        """Every two answers that there are, those that are alike too."""
        answers = {key: answer for key, answer in self.answers.items() if not answer.error}
        return [
            self.battle(prompt, answers[prompt.number, one], answers[prompt.number, other])
            for prompt in self.prompts
            for one, other in self.pairs
            if {(prompt.number, one), (prompt.number, other)} <= answers.keys()
        ]

    def battle(self, prompt: Prompt, one: Answer, other: Answer) -> Battle:
        """Two answers on the sides that the arena's seed gives them."""
        places = [self.config.contestants.index(answer.contestant) + 1 for answer in (one, other)]
        name = f"{prompt.number + 1}-{places[0]}-{places[1]}"
        swapped = random.Random(f"{self.config.seed} {name}").random() < 0.5
        return Battle(name, prompt, *((other, one) if swapped else (one, other)))

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        return _read(path, path.stat().st_size if path.exists() else 0)


@lru_cache(maxsize=12)
def _read(path: Path, size: int) -> list[dict[str, Any]]:
    """The lines of a file that only grows, read anew when it has grown."""
    return events.parse(read_since(path, 0)[0])
