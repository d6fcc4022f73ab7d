"""Which rows serve which training, and the sentence for those that do not."""

from __future__ import annotations

from dataclasses import dataclass

from studio.datasets.formats import Conversation, Feedback, Preference, Row, Text


@dataclass(frozen=True)
class Purpose:
    """The kinds of rows that a stage learns from, and what it needs in words."""

    kinds: tuple[type[Row], ...]
    needs: str


PAIRS = Purpose((Preference,), "pairs of a chosen and a rejected answer")
PURPOSES = {
    "pt": Purpose((Text, Conversation), "plain text or conversations"),
    "sft": Purpose((Conversation,), "conversations"),
    "rm": PAIRS,
    "dpo": PAIRS,
    "kto": Purpose((Feedback, Preference), "answers judged good or bad, or pairs of them"),
    "grpo": Purpose((Conversation,), "conversations"),
    "rloo": Purpose((Conversation,), "conversations"),
}
MADE_FOR: dict[type[Row], str] = {
    Text: "continued pre-training (stage pt)",
    Conversation: "learning answers (stage sft)",
    Preference: "preference training (stage dpo, kto or rm)",
    Feedback: "training on judged answers (stage kto)",
}


def misfit(stage: str, kind: type[Row]) -> str:
    """Why rows of `kind` cannot be used in `stage`, to follow "row 1 " or "demo "; empty where they can."""
    purpose = PURPOSES[stage]
    if kind in purpose.kinds:
        return ""
    return f"is data for {MADE_FOR[kind]}, not for {stage}: choose a dataset of {purpose.needs}"
