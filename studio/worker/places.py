"""Where in its text each token stands.

A tokenizer that is asked for places takes a third more time. In byte-level vocabularies every token stands for a
known number of bytes, so places can be counted; where that does not hold, the tokenizer tells them.
"""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

Span = tuple[int, int]
Numbers = npt.NDArray[np.int64]


class Places(Protocol):
    """The tokens of one text. `ids` are their numbers in the vocabulary."""

    @property
    def ids(self) -> list[int]: ...

    def tokens(self, start: int, stop: int) -> Span:
        """The tokens, first and past the last, that have a part of the characters from `start` to `stop`."""

    def spans(self) -> list[Span]:
        """The characters, first and past the last, of each token."""


class Tokens:
    """A tokenizer that also says where its tokens stand."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._lengths = _lengths(backend)
        self._composes = backend.normalizer is not None

    def of(self, texts: Sequence[str]) -> list[Places]:
        """The tokens of each text, no special ones added."""
        if self._lengths is None:
            return [Told(found) for found in self._backend.encode_batch(texts, add_special_tokens=False)]
        found = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._counted(text, encoding.ids) for text, encoding in zip(texts, found, strict=True)]

    def _counted(self, text: str, ids: list[int]) -> Places:
        assert self._lengths is not None
        size = len(text) if text.isascii() else len(text.encode())
        ends = np.cumsum(self._lengths[ids])
        kept_whole = not self._composes or unicodedata.is_normalized("NFC", text)
        if kept_whole and (int(ends[-1]) if len(ends) else 0) == size:
            return Counted(text, ids, ends)
        return Told(self._backend.encode(text, add_special_tokens=False))


@dataclass(frozen=True, slots=True)
class Told:
    """Places that the tokenizer tells."""

    encoding: Encoding

    @property
    def ids(self) -> list[int]:
        return self.encoding.ids

    def tokens(self, start: int, stop: int) -> Span:
        """Asking for a few places costs a tenth of a list of all places. White space tokens may have empty ones, and
        a character may have no token at all; so where the ends are not found, tokens are taken by their order."""

        def place(token: int) -> Span:
            return self.encoding.token_to_chars(token) or (0, 0)

        every = range(len(self.encoding))
        first, last = self.encoding.char_to_token(start), self.encoding.char_to_token(stop - 1)
        if first is None:
            first = bisect_right(every, start, key=lambda token: place(token)[1])
        if last is None:
            return first, bisect_left(every, stop, key=lambda token: place(token)[0])
        while last < len(every) and place(last)[0] < stop:  # a character may have several tokens
            last += 1
        return first, last

    def spans(self) -> list[Span]:
        return self.encoding.offsets


@dataclass(frozen=True, slots=True)
class Counted:
    """Places counted in bytes of UTF-8; `ends` are those past each token."""

    text: str
    ids: list[int]
    ends: Numbers

    def tokens(self, start: int, stop: int) -> Span:
        first = self.ends.searchsorted(self._bytes(start), side="right")
        last = self.ends.searchsorted(self._bytes(stop), side="left")
        return int(first), int(last) + 1

    def spans(self) -> list[Span]:
        begins_character = (np.frombuffer(self.text.encode(), np.uint8) & 0xC0) != 0x80
        characters = np.cumsum(begins_character) - 1
        firsts = characters[np.concatenate([[0], self.ends[:-1]])] if self.ids else np.zeros(0, np.int64)
        lasts = characters[self.ends - 1] + 1
        return list(zip(firsts.tolist(), lasts.tolist(), strict=True))

    def _bytes(self, characters: int) -> int:
        return characters if self.text.isascii() else len(self.text[:characters].encode())


def _lengths(backend: Tokenizer) -> Numbers | None:
    """Bytes that each token stands for; None unless every byte of a text is in exactly one token."""
    added = backend.get_added_tokens_decoder()
    if not _keeps_bytes(backend) or any(token.lstrip or token.rstrip for token in added.values()):
        return None
    vocabulary = backend.get_vocab(with_added_tokens=True)
    lengths = np.zeros(1 + max(vocabulary.values(), default=0), np.int64)
    for token, number in vocabulary.items():
        lengths[number] = len(token)  # a byte-level vocabulary writes each byte as one character
    for number, special in added.items():
        lengths[number] = len(special.content.encode())
    return lengths


def _keeps_bytes(backend: Tokenizer) -> bool:
    parts = list(_parts(_state(backend.pre_tokenizer), "pretokenizers"))
    levels = [part for part in parts if part.get("type") == "ByteLevel"]
    normalizers = {part.get("type") for part in _parts(_state(backend.normalizer), "normalizers")}
    return bool(levels) and not any(part.get("add_prefix_space") for part in levels) and normalizers <= {"NFC"}


def _state(component: Any) -> dict[str, Any]:
    return json.loads(component.__getstate__()) if component is not None else {}


def _parts(state: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A component, or those of a sequence."""
    parts: list[dict[str, Any]] = state.get(key, [state] if state else [])
    return parts
