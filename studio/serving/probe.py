"""Proof that base and adapter answers do not mix when both are computed in one batch.

vLLM on a CPU has answered base requests with an adapter's weights, silently, whenever the two met in a batch,
which is just what two chat panes do. So each adapter is tried before it may be used: the base alone, the adapter
alone, then both at once; the base must not notice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from studio.errors import RequestFailed
from studio.serving.client import Client

PROMPTS = ("Who are you?", "What is 2 + 2?", "Tell me a short story.", "你好，你是谁？")
TOKENS = 12
BATCHES = 3
TOP = 5  # alternatives per token that the server names
# rounding moves bf16 log-probabilities by up to 0.05 between batch sizes; a wrong adapter by whole nats
TOLERANCE, TOLERANCE_MAX = 0.1, 0.5


@dataclass(frozen=True)
class Token:
    """A generated token: its id, its log-probability, and those of the likeliest alternatives."""

    id: str
    logprob: float
    top: dict[str, float]


Row = tuple[Token, ...]


@dataclass(frozen=True)
class Reference:
    """The base's answers with no adapter about. `noise` is what batching alone changes in a log-probability.

    `prompts` are token ids.
    """

    rows: tuple[Row, ...]
    noise: float
    prompts: tuple[tuple[int, ...], ...] = ()

    @property
    def tolerance(self) -> float:
        return min(max(TOLERANCE, 3 * self.noise), TOLERANCE_MAX)


@dataclass(frozen=True)
class Check:
    """What the proof found. Differences are the largest, in nats; `ok`: the base answers as it does alone.

    `reference` says how the adapter's answers compare with those of Transformers and PEFT: ok, pending,
    "skipped: why" or "failed: why". `answers` are the adapter's own, with nobody else about.
    """

    base_max_logprob_diff: float
    adapter_max_logprob_diff_from_base: float
    rows: int
    ok: bool
    warning: str = ""
    reference: str = "pending"
    reference_max_logprob_diff: float | None = None
    answers: tuple[Row, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The value for server.json."""
        return {key: value for key, value in asdict(self).items() if key != "answers"}


async def observe_base(client: Client, base: str) -> Reference:
    """The base's own answers. Call it before any adapter is loaded."""
    prompts = tuple([await _prompt(client, base, text) for text in PROMPTS])
    alone = await answers(client, base, prompts)
    together = await asyncio.gather(*(answers(client, base, prompts) for _ in range(2)))
    return Reference(alone, max(difference(alone, rows) for rows in together), prompts)


async def check(client: Client, base: str, adapter: str, reference: Reference) -> Check:
    """Ask base and adapter the same, apart and together in several batches.

    Raises:
        SidecarNotReady, RequestFailed
    """
    prompts = reference.prompts
    alone = await answers(client, adapter, prompts)
    mixed = []
    for _ in range(BATCHES):
        rows, _ = await asyncio.gather(answers(client, base, prompts), answers(client, adapter, prompts))
        mixed.append(rows)
    moved = max(difference(reference.rows, rows) for rows in mixed)
    effect = difference(reference.rows, alone)
    warning = "" if effect > reference.tolerance else "the adapter hardly changes any answer: is it trained?"
    total = 2 * BATCHES * len(PROMPTS)
    return Check(round(moved, 4), round(effect, 4), total, moved <= reference.tolerance, warning, answers=alone)


def difference(expected: Sequence[Row], got: Sequence[Row]) -> float:
    """The largest change of an expected token's log-probability, up to where the texts part."""
    return max((_row_difference(*pair) for pair in zip(expected, got, strict=True)), default=0.0)


def _row_difference(expected: Row, got: Row) -> float:
    largest = 0.0
    for token, other in zip(expected, got, strict=False):
        # one that is not among the likeliest any more is at most as likely as the last of them
        logprob = other.top.get(token.id, min(other.top.values(), default=-math.inf))
        largest = max(largest, abs(token.logprob - logprob))
        if token.id != other.id:
            break
    return largest


async def _prompt(client: Client, base: str, text: str) -> tuple[int, ...]:
    """The text as a user's turn, in tokens; the bare text where the model has no chat template."""
    messages = [{"role": "user", "content": text}]
    try:
        answer = await client.post("/tokenize", {"model": base, "messages": messages})
    except RequestFailed:
        answer = await client.post("/tokenize", {"model": base, "prompt": text})
    return tuple(int(token) for token in answer["tokens"])


async def answers(client: Client, model: str, prompts: Sequence[tuple[int, ...]]) -> tuple[Row, ...]:
    """Greedy answers to all prompts; one request each, so that they reach the engine like those of people."""
    return tuple(await asyncio.gather(*(_answer(client, model, prompt) for prompt in prompts)))


async def _answer(client: Client, model: str, prompt: tuple[int, ...]) -> Row:
    # answers go on after the model has finished, so that short ones still meet the others in a batch
    options = {"temperature": 0.0, "max_tokens": TOKENS, "ignore_eos": True}
    # as ids: the texts of two tokens may be alike (parts of a character), and the server's table has one per text
    logprobs = {"logprobs": TOP, "return_tokens_as_token_ids": True}
    answer = await client.post("/v1/completions", {"model": model, "prompt": prompt, **options, **logprobs})
    found = answer["choices"][0]["logprobs"]
    columns = (found["tokens"], found["token_logprobs"], found["top_logprobs"])
    return tuple(Token(*values) for values in zip(*columns, strict=True))
