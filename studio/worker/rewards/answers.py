"""What a reward is given for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Answers:
    """Answers to prompts, each list as long as the others.

    `prompts` are lists of messages, `texts` and `ids` (tokens) the answers, `references` what the rows of the dataset
    answer ("" where they do not).
    """

    prompts: list[list[dict[str, Any]]]
    texts: list[str]
    ids: list[list[int]]
    references: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, index: int) -> Answers:
        """One of them."""
        one = slice(index, index + 1)
        return Answers(self.prompts[one], self.texts[one], self.ids[one], self.references[one])

    def question(self, index: int) -> str:
        """What was asked last."""
        return str(self.prompts[index][-1]["content"]) if self.prompts[index] else ""


Reward = Callable[[Answers], list[float]]


def conclusion(text: str) -> str:
    """An answer without the thoughts before it and without white space around it."""
    # a prompt may open the thoughts, an answer that is cut off may not close them
    return THOUGHTS.sub("", text).rpartition("</think>")[2].partition("<think>")[0].strip()
