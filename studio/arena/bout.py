"""The work of an arena: everybody answers every prompt, and the judge looks at each two answers.

What is in the arena's files already is not asked again. A request that fails is a missing value, never a lost battle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Protocol

from studio.arena.battles import Answer, Arena, Battle
from studio.arena.judge import judge
from studio.arena.prompts import Prompt, prompts
from studio.arena.votes import Message
from studio.config.arena import ArenaConfig
from studio.datasets.registry import Registry
from studio.errors import RequestFailed, ServingError
from studio.runs.store import Store
from studio.serving.client import Client, Delta, Sampling
from studio.serving.voices import Voice, open_voice

AT_ONCE = 8  # requests to one model: its server answers them in one batch
JUDGE_MAX_TOKENS = 1024


class Told(Protocol):
    """Who is told how it goes: the reporter of a worker."""

    def phase(self, name: str, message: str = "") -> None: ...
    def progress(self, message: str) -> None: ...
    def step(self, step: int, total_steps: int, eta_s: float | None, message: str = "") -> None: ...


async def play(store: Store, registry: Registry, arena: Arena, told: Told) -> dict[str, Any]:
    """Bring an arena to its end. Its figures: {"prompts", "answers", "missing", "alike", "battles", "verdicts"}.

    Raises:
        DatasetError, ModelError, ServingError: nothing to ask, somebody who cannot answer, or not one battle.
    """
    told.phase("drawing prompts")
    if not arena.prompts:
        arena.draw(prompts(arena.config, registry))
    async with AsyncExitStack() as stack:
        speakers = [await stack.enter_async_context(each) for each in await _open(store, arena.config, told)]
        told.phase("answering")
        bout = _Bout(arena, speakers[: len(arena.config.contestants)], speakers[len(arena.config.contestants) :], told)
        await asyncio.gather(*map(bout.play, arena.prompts))
    return _figures(arena)


@dataclass
class _Speaker:
    """One that is asked, a few prompts at a time."""

    pick: str
    voice: Voice
    sampling: Sampling
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def __aenter__(self) -> _Speaker:
        self.client = Client(self.voice.server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def answer(self, number: int, messages: Sequence[Message]) -> Answer:
        """The whole answer to the prompt of that number, or why there is none."""
        try:
            async with self.turns:
                return await self._answer(number, messages)
        except ServingError as error:
            return Answer(number, self.pick, error=str(error))

    async def say(self, text: str) -> str:
        """What is answered to a text.

        Raises:
            SidecarNotReady, RequestFailed
        """
        async with self.turns:
            return (await self._answer(0, [{"role": "user", "content": text}])).text

    async def _answer(self, number: int, messages: Sequence[Message]) -> Answer:
        text, options = "", self.voice.wording.to_json()
        async for event in self.client.stream_chat(self.voice.model, messages, self.sampling, options):
            if not isinstance(event, Delta):
                return Answer(number, self.pick, text, event.completion_tokens, event.seconds, event.finish_reason)
            text += event.text
        raise RequestFailed("The answer broke off: the model server closed the connection")


@dataclass
class _Bout:
    """The asking, and how far it is."""

    arena: Arena
    contestants: Sequence[_Speaker]
    judges: Sequence[_Speaker]
    told: Told

    def __post_init__(self) -> None:
        self.answers = self.arena.answers
        self.verdicts = self.arena.verdicts
        self.begun, self.done = time.monotonic(), 0

    async def play(self, prompt: Prompt) -> None:
        """Have a prompt answered by all, and judged."""
        answers = await asyncio.gather(*(self._answer(each, prompt) for each in self.contestants))
        there = [answer for answer in answers if not answer.error]
        meetings = [self.arena.battle(prompt, *two) for two in combinations(there, 2)]
        battles = [battle for battle in meetings if not battle.is_alike]
        await asyncio.gather(*(self._judge(each, battle) for each in self.judges for battle in battles))
        self._step()

    async def _answer(self, contestant: _Speaker, prompt: Prompt) -> Answer:
        known = self.answers.get((prompt.number, contestant.pick))
        if known and not known.error:
            return known
        answer = await contestant.answer(prompt.number, prompt.request)
        self.arena.add(answer)
        return answer

    async def _judge(self, speaker: _Speaker, battle: Battle) -> None:
        known = self.verdicts.get(battle.id)
        if known is None or known.outcome is None:
            self.arena.add(await judge(battle, speaker.say, self.arena.config.judge_prompt))

    def _step(self) -> None:
        self.done += 1
        total = len(self.arena.prompts)
        eta_s = (time.monotonic() - self.begun) / self.done * (total - self.done)
        self.told.step(self.done, total, eta_s, f"{self.done} of {total} prompts answered")


async def _open(store: Store, config: ArenaConfig, told: Told) -> list[_Speaker]:
    """The contestants in their order, then the judge if there is one. One after the other: memory is seldom for two
    servers that start."""
    judges = [config.judge] if config.judge else []
    together = [*config.contestants, *judges]
    voices = []
    for pick in together:
        told.phase("starting servers", pick)
        voices.append(await open_voice(store, pick, together, lambda status: told.progress(_words(status))))
    free = sampling(config)
    strict = replace(free, temperature=0.0, top_p=1.0, top_k=None, repetition_penalty=1.0, max_tokens=JUDGE_MAX_TOKENS)
    samplings = [*(free for _ in config.contestants), *(strict for _ in judges)]
    return [_Speaker(*each) for each in zip(together, voices, samplings, strict=True)]


def sampling(config: ArenaConfig) -> Sampling:
    """How the contestants' tokens are drawn."""
    return Sampling(
        temperature=config.temperature, top_p=config.top_p, top_k=config.top_k, max_tokens=config.max_new_tokens,
        repetition_penalty=config.repetition_penalty, seed=config.seed, enable_thinking=config.enable_thinking,
    )  # fmt: skip


def _figures(arena: Arena) -> dict[str, Any]:
    """What came of it.

    Raises:
        RequestFailed: there is not one battle, with the first reason.
    """
    answers, meetings, battles = arena.answers.values(), arena.meetings, arena.battles
    missing = [answer for answer in answers if answer.error]
    if not meetings:
        raise RequestFailed(f"No prompt was answered by two contestants. {missing[0].error if missing else ''}".strip())
    return {
        "prompts": len(arena.prompts),
        "answers": len(answers) - len(missing),
        "missing": len(missing),
        "alike": len(meetings) - len(battles),
        "battles": len(battles),
        "verdicts": sum(verdict.outcome is not None for verdict in arena.verdicts.values()),
    }


def _words(status: Mapping[str, Any]) -> str:
    left = status.get("eta_s")
    return f"{status.get('message') or 'starting'}{f', about {left:.0f} s left' if left else ''}"
