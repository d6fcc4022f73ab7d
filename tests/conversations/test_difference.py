"""Where two answers differ, word by word."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.conversations.difference import difference


@pytest.mark.parametrize(
    ("before", "after", "pieces"),
    [
        ("", "", []),
        ("same", "same", [("same", "same")]),
        ("", "new", [("added", "new")]),
        ("a cat sat", "a dog sat", [("same", "a "), ("removed", "cat "), ("added", "dog "), ("same", "sat")]),
        ("Yes, it is.", "Yes. It is.", [("same", "Yes"), ("removed", ", it "), ("added", ". It "), ("same", "is.")]),
        ("我是小猫", "我是小狗", [("same", "我是小"), ("removed", "猫"), ("added", "狗")]),
        ("don't", "do", [("removed", "don't"), ("added", "do")]),
    ],
)
def test_words_that_differ(before: str, after: str, pieces: list[tuple[str, str]]) -> None:
    assert difference(before, after) == pieces


@given(st.text("ab .\n你好😀\u0301", max_size=30), st.text("ab .\n你好😀\u0301", max_size=30))
def test_both_texts_are_in_the_pieces(before: str, after: str) -> None:
    pieces = difference(before, after)
    assert "".join(text for op, text in pieces if op != "added") == before
    assert "".join(text for op, text in pieces if op != "removed") == after


@pytest.mark.parametrize("words", [3, 5, 97])
def test_answers_that_repeat_themselves_do_not_take_minutes(words: int) -> None:
    before = " ".join(f"word{number % words} and" for number in range(3000))
    after = " ".join(f"word{number % 4} and" for number in range(3000))
    begun = time.process_time()
    pieces = difference(before, after)
    assert time.process_time() - begun < 5
    assert "".join(text for op, text in pieces if op != "removed") == after
