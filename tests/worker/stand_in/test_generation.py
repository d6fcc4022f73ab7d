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
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
