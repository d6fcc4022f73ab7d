"""Which token comes next: Transformers' own processors, and a draw that a seed repeats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; at temperature 0 the likeliest is. `logprobs`: how many alternatives are told, if any."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logprobs: int | None = None


@dataclass(frozen=True)
class Drawn:
    """A token, its log-probability, and those of the likeliest (and its own), by the model before any processor.

    `top` begins with the token itself, as vLLM's does.
    """

    token: int
    logprob: float = math.nan
    top: tuple[tuple[int, float], ...] = ()


class Draw(LogitsProcessor):  # type: ignore[misc]  # transformers is untyped
    """Draws the token itself, hands it to `take`, and leaves `generate` no other choice."""

    def __init__(self, sampling: Sampling, device: torch.device, take: Callable[[Drawn], None]) -> None:
        self._sampling = sampling
        self._take = take
        self._processors = _processors(sampling)
        self._generator = torch.Generator(device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """input_ids [1, tokens], scores [1, vocabulary] -> scores of which only the drawn token's is finite."""
        token = self._next(self._processors(input_ids, scores))
        self._take(_drawn(scores[0], token, self._sampling.logprobs))
        chosen = torch.full_like(scores, -math.inf)
        chosen[0, token] = 0.0
        return chosen

    def _next(self, scores: torch.FloatTensor) -> int:
        if not self._sampling.temperature:
            return int(scores[0].argmax())
        return int(torch.multinomial(scores[0].softmax(-1), 1, generator=self._generator))


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """Those that change anything, in vLLM's order."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if not sampling.temperature:
        return processors
    processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.min_p > 0:
        processors.append(MinPLogitsWarper(sampling.min_p))
    if sampling.top_k > 0:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return processors


def _drawn(scores: torch.Tensor, token: int, count: int | None) -> Drawn:
    if count is None:
        return Drawn(token)
    logprobs = scores.float().log_softmax(-1)
    values, ids = logprobs.topk(min(count, len(logprobs)))
    own = float(logprobs[token])
    others = ((i, value) for i, value in zip(ids.tolist(), values.tolist(), strict=True) if i != token)
    return Drawn(token, own, ((token, own), *others))
