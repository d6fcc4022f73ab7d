"""The rewards that need nothing but the answer and the reference."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from studio.errors import RewardError
from studio.worker.rewards.answers import Answers, Reward, conclusion

SPACE = re.compile(r"\s+")
FRACTION = re.compile(r"\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")
NUMBER = re.compile(
    r"(?:(?<![\w)])[-+])?"  # no sign is the minus of "10-5"
    r"(?:\d+/[1-9]\d*(?![\d.])|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|\.\d+)"
)
BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
MARK = "####"  # what many sets of sums write before the result
LONGEST = 40  # characters of a result


def exact_match(answers: Answers) -> list[float]:
    """1 for the words of the reference, thoughts and white space aside."""
    return [
        float(_words(text) == _words(wanted)) for text, wanted in zip(answers.texts, answers.references, strict=True)
    ]


def number_match(answers: Answers) -> list[float]:
    """1 for the last number of the reference: the one behind ####, in a box, or simply the last."""
    return [_same(number(text), number(wanted)) for text, wanted in zip(answers.texts, answers.references, strict=True)]


def format_match(pattern: str) -> Reward:
    """1 where `pattern` is found; a dot matches line ends too.

    Raises:
        RewardError: it is no regular expression.
    """
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise RewardError(f"reward_pattern is not a regular expression: {error} in {pattern!r}") from error
    return lambda answers: [float(compiled.search(text) is not None) for text in answers.texts]


def length(wanted: int) -> Reward:
    """1 for an answer of `wanted` tokens, less by its distance, 0 for an empty one or one of twice as many."""
    return lambda answers: [max(0.0, 1 - abs(len(ids) - wanted) / wanted) for ids in answers.ids]


def number(text: str) -> Fraction | None:
    """The number that a text comes to; None without any."""
    plain = unicodedata.normalize("NFKC", conclusion(text)).replace("\N{MINUS SIGN}", "-")
    plain = FRACTION.sub(r"\1/\2", plain)
    boxes = BOXED.findall(plain)
    if boxes and (found := _numbers(boxes[-1])):
        return found[-1]
    if MARK in plain and (found := _numbers(plain.rpartition(MARK)[2])):
        return found[0]  # words may follow it
    found = _numbers(plain)
    return found[-1] if found else None


def _numbers(text: str) -> list[Fraction]:
    return [Fraction(found.replace(",", "")) for found in NUMBER.findall(text) if len(found) <= LONGEST]


def _same(one: Fraction | None, other: Fraction | None) -> float:
    if one is None or other is None:
        return 0.0
    return float(abs(one - other) <= abs(other) / 1_000_000)


def _words(text: str) -> str:
    return SPACE.sub(" ", conclusion(text))
