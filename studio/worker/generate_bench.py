"""Transformers' own generate as a benchmark's variant: python -m studio.worker.generate_bench MODEL DTYPE THREADS

Reads one JSON line a measurement, {"prompts": [[ids]], "tokens": [counts], "batch": n, "limit_s": s}, and answers
each with one, {"batches": [{"began_s", "token_s": [...]}]}, in seconds since the measurement began. The prompts of a
batch are equally long; it runs until its longest answer is complete, as a static batch does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.generation.streamers import BaseStreamer


class Clock(BaseStreamer):  # type: ignore[misc]
    """When each step of a generation was done. `generate` first hands over the prompt, which is no step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.steps.append(time.perf_counter())

    def end(self) -> None:
        return


def main(name: str, dtype: str, threads: int) -> None:
    """Load the model, say so, then measure what is asked until the input ends."""
    answers = _own_output()
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval()
    _tell(answers, {"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.perf_counter()
        batches = list(_measure(model, asked["prompts"], asked["tokens"], asked["batch"], asked["limit_s"], begun))
        _tell(answers, {"batches": batches})


def _measure(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    batch: int,
    limit_s: float,
    begun: float,
) -> Iterator[dict[str, Any]]:
    for first in range(0, len(prompts), batch):
        began = time.perf_counter() - begun
        if first and began > limit_s:
            return
        steps = _generate(model, prompts[first : first + batch], max(tokens[first : first + batch]))
        yield {"began_s": began, "token_s": [step - begun for step in steps]}


def _generate(model: PreTrainedModel, prompts: Sequence[Sequence[int]], tokens: int) -> list[float]:
    """When each token of a batch was there. Greedy, to the full length."""
    ids, clock = torch.tensor(prompts, device=model.device), Clock()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), streamer=clock, do_sample=False, min_new_tokens=tokens,
        max_new_tokens=tokens, pad_token_id=0,
    )  # fmt: skip
    return clock.steps[1:]


def _own_output() -> IO[str]:
    """The way for answers; whatever libraries print goes to the log instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _tell(answers: IO[str], value: dict[str, Any]) -> None:
    print(json.dumps(value), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
