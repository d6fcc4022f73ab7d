"""Where two answers differ, word by word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

Op = Literal["same", "removed", "added"]

# a word with the space after it; Chinese, Japanese and Korean have no spaces, and each character is a word
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]\s*|[\w'’]+\s*|[^\w\s]\s*|\s+")


# a model that repeats itself for 2,000 words would take minutes; beyond this, words that are frequent match nothing
PAIRS_MAX = 200_000


def difference(before: str, after: str) -> list[tuple[Op, str]]:
    """The pieces of both texts in order: what is the same, what only `before` has, what only `after` has.

    The pieces that are not "added" make up `before`, those that are not "removed" `after`.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    pieces: list[tuple[Op, str]] = []
    matcher = SequenceMatcher(None, old, new, autojunk=_pairs(old, new) > PAIRS_MAX)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(old[old_from:old_to])))
            continue
        sides: list[tuple[Op, list[str]]] = [("removed", old[old_from:old_to]), ("added", new[new_from:new_to])]
        pieces += [(op, "".join(words)) for op, words in sides if words]
    return pieces


def _pairs(old: Sequence[str], new: Sequence[str]) -> int:
    """How many words of one could be one of the other."""
    counts = Counter(new)
    return sum(count * counts[word] for word, count in Counter(old).items())
