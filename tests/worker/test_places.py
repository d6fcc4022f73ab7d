"""Places that are counted are those that the tokenizer tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from studio.models import resolve
from studio.worker.places import Counted, Tokens, Told

BUNDLED = Path(resolve("seedling")) / "tokenizer.json"
COMPOSED, APART = "\u00e9", "e\u0301"
TEXTS = st.text(alphabet=st.sampled_from("aé你🌱 \n\t<|>im_end" + APART), max_size=40)


def bundled() -> Tokenizer:
    return Tokenizer.from_file(str(BUNDLED))


@given(text=TEXTS, data=st.data())
def test_every_span_has_the_same_tokens_counted_and_told(text: str, data: st.DataObject) -> None:
    backend = bundled()
    [counted], told = Tokens(backend).of([text]), Told(backend.encode(text, add_special_tokens=False))
    assert isinstance(counted, Counted)
    assert counted.ids == told.ids
    if not text.strip():
        return
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))
    if not (text[start].isspace() or text[stop - 1].isspace()):  # told places leave space out, counted ones do not
        assert counted.tokens(start, stop) == told.tokens(start, stop)


@given(text=TEXTS)
def test_counted_spans_cover_the_text(text: str) -> None:
    [counted] = Tokens(bundled()).of([text])
    spans = counted.spans()
    assert [0, *(stop for _, stop in spans)][-1] == len(text)
    assert all(start <= stop_before for (start, _), (_, stop_before) in zip(spans[1:], spans, strict=False))


def test_a_text_that_is_changed_before_is_not_counted() -> None:
    backend = bundled()
    backend.normalizer = normalizers.NFC()
    whole, changed = Tokens(backend).of([COMPOSED, APART])
    assert (type(whole), type(changed)) == (Counted, Told)
    assert whole.ids == changed.ids


@pytest.mark.parametrize("how", ["strips", "lower case"])
def test_a_tokenizer_that_loses_characters_is_asked(how: str) -> None:
    backend = bundled()
    if how == "strips":
        backend.add_tokens([AddedToken("<mask>", lstrip=True)])
    else:
        backend.normalizer = normalizers.Lowercase()
    [places] = Tokens(backend).of(["A  <mask> b"])
    assert isinstance(places, Told)
