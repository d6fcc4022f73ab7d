"""Conversations in any number, the same for the same seed: what the benchmarks of large files read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import orjson

TURNS = (1, 1, 1, 2, 3)
SENTENCES = 4000
LATIN = ("ba", "con", "de", "fi", "gra", "ho", "ing", "ka", "lu", "men", "no", "or", "pa", "qui", "ra", "sta", "un")
CHINESE = tuple("的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会")
CHINESE_SHARE = 0.1
_BUFFER_BYTES = 8 << 20


def write_conversations(path: Path, rows: int, seed: int = 42) -> None:
    """Write `rows` conversations of about 1 kB each as lines of OpenAI messages."""
    with open(path, "wb", _BUFFER_BYTES) as file:
        file.writelines(_lines(rows, random.Random(seed)))


def _lines(rows: int, chance: random.Random) -> Iterator[bytes]:
    latin, chinese = ([_sentence(syllables, chance) for _ in range(SENTENCES)] for syllables in (LATIN, CHINESE))
    for number in range(1, rows + 1):
        sentences = chinese if chance.random() < CHINESE_SHARE else latin
        turns = [
            {"role": role, "content": " ".join(chance.choices(sentences, k=length))}
            for _ in range(chance.choice(TURNS))
            for role, length in (("user", 2), ("assistant", 7))
        ]
        turns[0]["content"] += f" ({number})"
        yield orjson.dumps({"messages": turns}) + b"\n"


def _sentence(syllables: tuple[str, ...], chance: random.Random) -> str:
    words = ("".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(chance.randint(5, 13)))
    return " ".join(words).capitalize() + "."
