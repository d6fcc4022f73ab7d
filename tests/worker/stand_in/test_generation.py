"""Answers that are computed in turns are those that are computed alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    GPTNeoConfig,
    MambaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RecurrentGemmaConfig,
)

from studio.worker.stand_in import adapters
from studio.worker.stand_in.generation import Ending, Generation, Piece, Task
from studio.worker.stand_in.sampling import Sampling
from tests.worker.stand_in.conftest import PROMPT, TOKENS, greedy, make_adapter

GREEDY = Sampling(temperature=0.0)
LONG = Ending(400)


def task(model: Any, prompt: tuple[int, ...] = PROMPT, sampling: Sampling = GREEDY, **ending: Any) -> Task:
    return Task(model, prompt, sampling, Ending(**{"max_tokens": TOKENS, **ending}))


async def collect(generation: Generation, tasks: Sequence[Task]) -> list[list[Piece]]:
    answers: list[list[Piece]] = [[] for _ in tasks]
    async for number, piece in generation.answer(tasks):
        answers[number].append(piece)
    return answers


def tokens(pieces: Sequence[Piece]) -> list[int]:
    return [piece.drawn.token for piece in pieces if piece.drawn]


@pytest.fixture
def generation(tokenizer: PreTrainedTokenizerBase) -> Generation:
    return Generation(tokenizer, limit=8)


def test_base_and_adapter_at_once_answer_as_alone(
    generation: Generation, model: PreTrainedModel, model_dir: Path, tmp_path: Path
) -> None:
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    make_adapter(model_dir, lora, tmp_path)
    models = [model, adapters.load(model, tmp_path)] * 4
    prompts = [(5, *range(60, 60 + length)) for length in range(3, 11)]
    alone = [greedy(each, prompt) for each, prompt in zip(models, prompts, strict=True)]

    async def at_once() -> list[list[Piece]]:
        answers = (collect(generation, [task(*pair)]) for pair in zip(models, prompts, strict=True))
        return [answer for (answer,) in await asyncio.gather(*answers)]

    answers = asyncio.run(at_once())
    assert [tokens(answer) for answer in answers] == alone
    assert all(answer[-1].finish_reason == "length" for answer in answers)
    assert len({tuple(answer) for answer in alone}) == 8


SIZES: dict[str, Any] = {"vocab_size": 320, "hidden_size": 32, "pad_token_id": 0, "eos_token_id": 2}
REMEMBERING = {
    "in places": GPTNeoConfig(
        num_layers=2, attention_types=[[["global", "local"], 1]], num_heads=4, intermediate_size=64, window_size=8,
        initializer_range=0.4, **SIZES,
    ),
    "in a state": MambaConfig(num_hidden_layers=2, state_size=8, **SIZES),
    "in its modules": RecurrentGemmaConfig(
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1, lru_width=32, intermediate_size=64,
        attention_window_size=16, **SIZES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REMEMBERING)
def test_models_may_remember_in_any_way(generation: Generation, kind: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(REMEMBERING[kind]).eval()
    prompts = [tuple(range(60, 60 + length)) for length in (3, 7, 20)]
    expected = [greedy(model, prompt) for prompt in prompts]
    answers = asyncio.run(collect(generation, [task(model, prompt) for prompt in prompts]))
    assert [tokens(answer) for answer in answers] == expected


def test_answers_take_turns_at_every_token(generation: Generation, model: PreTrainedModel) -> None:
    async def order() -> list[int]:
        return [number async for number, _ in generation.answer([task(model), task(model)])]

    numbers = asyncio.run(order())
    middle = numbers[4:-4]
    assert all(first != second for first, second in pairwise(middle))


def test_seeds_repeat_in_any_company(generation: Generation, model: PreTrainedModel) -> None:
    warm = [task(model, sampling=Sampling(temperature=1.5, seed=seed)) for seed in (1, 2, 1)]
    first, other, again = (tokens(answer) for answer in asyncio.run(collect(generation, warm)))
    (alone,) = asyncio.run(collect(generation, warm[:1]))
    assert first == again == tokens(alone) != other


def test_what_ends_an_answer(generation: Generation, model: PreTrainedModel, tokenizer: Any) -> None:
    whole = greedy(model)
    third = whole[2]
    assert third not in whole[:2]
    for ending, reason, stop in (
        ({"tokens": frozenset([third])}, "stop", None),
        ({"stop_tokens": frozenset([third])}, "stop", third),
        ({"max_tokens": 3}, "length", None),
    ):
        (pieces,) = asyncio.run(collect(generation, [task(model, **ending)]))
        assert tokens(pieces) == whole[:3]
        assert (pieces[-1].finish_reason, pieces[-1].stop_reason) == (reason, stop)
    text = tokenizer.decode(whole)
    (pieces,) = asyncio.run(collect(generation, [task(model, stops=(text[3:6],))]))
    assert "".join(piece.text for piece in pieces) == text[: text.index(text[3:6])]
    assert (pieces[-1].finish_reason, pieces[-1].stop_reason) == ("stop", text[3:6])


def test_leaving_ends_the_work(generation: Generation, model: PreTrainedModel) -> None:
    async def leave() -> float:
        async with aclosing(generation.answer([Task(model, PROMPT, GREEDY, LONG)] * 3)) as pieces:
            await anext(pieces)
            assert generation.running + generation.waiting == 3
        begun = time.monotonic()
        while generation.running or generation.waiting:
            await asyncio.sleep(0.005)
        return time.monotonic() - begun

    assert asyncio.run(leave()) < 2


def test_more_than_the_limit_wait_and_are_answered(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    narrow = Generation(tokenizer, limit=2)

    async def crowd() -> list[list[int]]:
        seen, answers = [], collect(narrow, [task(model)] * 5)
        work = asyncio.create_task(answers)
        while not work.done():
            seen.append((narrow.running, narrow.waiting))
            await asyncio.sleep(0.001)
        assert max(running for running, _ in seen) == 2
        assert max(waiting for _, waiting in seen) >= 3
        return [tokens(answer) for answer in work.result()]

    assert asyncio.run(crowd()) == [greedy(model)] * 5


def test_aborted_answers_say_so(generation: Generation, model: PreTrainedModel) -> None:
    async def shut_down() -> list[Piece]:
        pieces = []
        async for _, piece in generation.answer([Task(model, PROMPT, GREEDY, LONG)]):
            generation.abort()
            pieces.append(piece)
        return pieces

    pieces = asyncio.run(shut_down())
    assert pieces[-1].finish_reason == "abort"
    assert len(pieces) < 10


def test_an_error_is_its_own_answers_only(generation: Generation, model: PreTrainedModel) -> None:
    async def both() -> tuple[Any, ...]:
        wrong = collect(generation, [task(model, prompt=(5, 100_000))])
        right = collect(generation, [task(model)])
        return tuple(await asyncio.gather(wrong, right, return_exceptions=True))

    failed, (answer,) = asyncio.run(both())
    assert isinstance(failed, IndexError)
    assert tokens(answer) == greedy(model)
    assert (generation.running, generation.waiting) == (0, 0)
