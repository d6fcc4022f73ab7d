"""What is asked: prompts of token ids and lengths of answers, the same for every variant.

The ids are drawn at random, so that no two prompts begin alike: a prefix cache would answer for the model otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio import models
from studio.config.bench import BenchConfig
from studio.errors import ModelError
from studio.files import read_record


@dataclass(frozen=True)
class Case:
    """One kind of load: `clients` that ask at the same time, each one question after another. Lengths in tokens."""

    clients: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Ask:
    """One request: the prompt's token ids, and how many tokens the answer has."""

    prompt: tuple[int, ...]
    tokens: int


def cases(config: BenchConfig) -> list[Case]:
    """Every kind of load that `config` names."""
    return [
        Case(clients, prompt, output)
        for prompt in config.prompt_tokens
        for output in config.output_tokens
        for clients in config.concurrency
    ]


def asks(config: BenchConfig, case: Case, repeat: int, vocabulary: Sequence[int]) -> list[Ask]:
    """The requests of one measurement, the same whoever answers."""
    draw = random.Random(f"{config.seed} {case} {repeat}")
    low, high = (round(case.output_tokens * (1 + sign * config.length_spread)) for sign in (-1, 1))
    return [
        Ask(tuple(draw.choices(vocabulary, k=case.prompt_tokens)), draw.randint(max(1, low), high))
        for _ in range(case.clients * config.requests_per_client)
    ]


def vocabulary(model: str) -> list[int]:
    """Token ids that any prompt may hold.

    Raises:
        ModelError: the model is not on this machine, or does not say how many tokens it knows.
    """
    folder = models.folder_of(model)
    if folder is None:
        raise ModelError(f"{model} is not on this machine: download it first, or give its folder")
    size = _vocabulary_size(folder)
    special = set(models.added_tokens(folder).values())
    # the table of embeddings may be longer than the tokenizer's, and servers refuse an id without a text
    return [token for token in range(size * 3 // 4) if token not in special]


def _vocabulary_size(folder: Path) -> int:
    config = read_record(folder / "config.json")
    text = config.get("text_config")
    for place in (config, text if isinstance(text, dict) else {}):
        if isinstance(size := place.get("vocab_size"), int):
            return size
    raise ModelError(f"{folder / 'config.json'} does not say how many tokens the model knows (vocab_size)")
