"""Texts token by token: no half characters, and stop strings found wherever tokens break."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from studio.settings import ASSETS
from studio.worker.stand_in.text import Text

TOKENIZER: Any = AutoTokenizer.from_pretrained(ASSETS / "seedling")
BYTES = {chr(byte): TOKENIZER.convert_tokens_to_ids(chr(byte)) for byte in range(33, 127)}


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False).input_ids)


def stream(tokens: list[int], stops: tuple[str, ...] = (), keep_stop: bool = False) -> tuple[list[str], str | None]:
    """The pieces that are shown, and the stop string that was met."""
    text, pieces = Text(TOKENIZER, ids("Who are you?"), stops, keep_stop), []
    for number, token in enumerate(tokens):
        met = text.add(token)
        pieces.append(text.release(met is not None or number == len(tokens) - 1))
        if met:
            return pieces, met
    return pieces, None


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=30))
def test_pieces_make_up_the_text(text: str) -> None:
    pieces, _ = stream(ids(text))
    assert "".join(pieces) == TOKENIZER.decode(ids(text))
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_comes_whole() -> None:
    tokens = ids("𝄞")
    assert len(tokens) > 1
    assert stream(tokens)[0] == [*[""] * (len(tokens) - 1), "𝄞"]
    assert stream(tokens[:-1])[0] == [""] * (len(tokens) - 1)


@settings(max_examples=60, deadline=None)
@given(st.text("ab ", min_size=1, max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_first_stop_string_cuts_the_text(text: str, stops: list[str]) -> None:
    tokens = [BYTES[letter] for letter in text.replace(" ", "c")]
    text = text.replace(" ", "c")
    ends = [(text.index(stop) + len(stop), stop) for stop in stops if stop in text]
    pieces, met = stream(tokens, tuple(stops))
    if not ends:
        assert (met, "".join(pieces)) == (None, text)
        return
    end, first = min(ends, key=lambda pair: pair[0])
    assert met is not None
    assert text[:end].endswith(met)
    assert "".join(pieces) == text[: end - len(met)]
    assert "".join(stream(tokens, tuple(stops), keep_stop=True)[0]) == text[:end]
    assert len(met) == len(first) or text[:end].endswith(first)


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    tokens = [BYTES[letter] for letter in "xxENyyEND!"]
    pieces, met = stream(tokens, ("END",))
    assert met == "END"
    assert "".join(pieces) == "xxENyy"
    assert pieces[:4] == ["", "", "x", "x"]


def test_a_stop_string_split_over_real_tokens_is_found() -> None:
    tokens = ids("The sun is warm today.")
    assert len(tokens) > 3
    pieces, met = stream(tokens, ("n is w",))
    assert met == "n is w"
    assert "".join(pieces) == "The su"


def test_tokens_without_text_add_none() -> None:
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert stream([*ids("Yes"), end])[0][-1] == ""


@pytest.mark.parametrize("text", [" leading space", "trailing space ", "  two  "])
def test_spaces_are_kept(text: str) -> None:
    assert "".join(stream(ids(text))[0]) == text
