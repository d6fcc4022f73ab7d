"""A judge is asked in both orders; what it does not say is missing."""

from __future__ import annotations

import asyncio

import pytest

from studio.arena.battles import Answer, Battle
from studio.arena.judge import judge, letter, worded
from studio.arena.prompts import Prompt
from studio.errors import RequestFailed

PROMPT = Prompt(0, ({"role": "user", "content": "Why?"},))
BATTLE = Battle("1-1-2", PROMPT, Answer(0, "a", "L"), Answer(0, "b", "R"))


def verdict(*texts: str):
    """What comes of a judge that says these texts, one after the other; an empty one is a failed call."""
    said = iter(texts)

    async def ask(text: str) -> str:
        if answer := next(said):
            return answer
        raise RequestFailed("no answer")

    return asyncio.run(judge(BATTLE, ask))


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("[[A]]", "[[B]]", "left"), ("[[B]]", "[[A]]", "right"), ("[[C]]", "[[C]]", "tie"),
        ("[[A]]", "[[A]]", "tie"), ("[[B]]", "[[B]]", "tie"), ("[[A]]", "[[C]]", "tie"), ("[[C]]", "[[A]]", "tie"),
    ],
)  # fmt: skip
def test_both_orders(first, second, outcome):
    found = verdict(first, second)
    assert (found.outcome, found.texts, found.why) == (outcome, (first, second), "")


@pytest.mark.parametrize("texts", [("I like both.", "[[A]]"), ("[[B]]", "[[D]]"), ("[A]", "B")])
def test_no_verdict_is_missing_and_its_text_is_kept(texts):
    found = verdict(*texts)
    assert found.outcome is None
    assert found.texts == texts
    assert "[[A]]" in found.why


@pytest.mark.parametrize("texts", [("",), ("[[A]]", "")])
def test_a_failed_call_is_missing_with_the_reason(texts):
    found = verdict(*texts)
    assert (found.outcome, found.why) == (None, "no answer")
    assert found.texts == texts[:-1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[A]]", "A"),
        ("[[A]] is not it. [[B]]", "B"),
        ("so: **[[C]]**.", "C"),
        ("A", None),
        ("", None),
        ("[[a]]", None),
    ],
)
def test_the_last_verdict_counts(text, found):
    assert letter(text) == found


def test_each_order_is_put_into_words():
    asked: list[str] = []

    async def ask(text: str) -> str:
        asked.append(text)
        return "[[C]]"

    asyncio.run(judge(BATTLE, ask, "{prompt}|{answer_a}|{answer_b}"))
    assert asked == ["Why?|L|R", "Why?|R|L"]


def test_an_answer_cannot_take_the_place_of_another():
    assert worded("{answer_a} {answer_b}", PROMPT, "{answer_b} {prompt}", "R") == "{answer_b} {prompt} R"


def test_a_conversation_is_told_with_its_speakers():
    turns = ({"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"})
    assert worded("{prompt}", Prompt(0, turns, "S"), "", "") == "system: S\n\nuser: 1\n\nassistant: 2\n\nuser: 3"
