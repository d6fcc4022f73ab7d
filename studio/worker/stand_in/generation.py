"""Answers computed by `generate`, several at a time: a thread each, of which one computes, and passes on at each token.

So a request's tokens are those that `generate` gives to it alone, whatever else is asked meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from studio.worker.stand_in.sampling import Draw, Drawn, Sampling
from studio.worker.stand_in.text import Text


@dataclass(frozen=True)
class Ending:
    """What ends an answer. `tokens` are the model's own ends; `stop_tokens` those of the request."""

    max_tokens: int
    tokens: frozenset[int] = frozenset()
    stop_tokens: frozenset[int] = frozenset()
    stops: tuple[str, ...] = ()
    keep_stop: bool = False


@dataclass(frozen=True)
class Task:
    """One answer to give."""

    model: PreTrainedModel
    prompt: tuple[int, ...]
    sampling: Sampling
    ending: Ending


@dataclass(frozen=True)
class Piece:
    """What a token adds to an answer. `stop_reason`: the stop string or token of the request that was met."""

    text: str
    drawn: Drawn | None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class Turns:
    """A lock that is handed on in the order of asking."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False

    def take(self) -> None:
        """Wait for one's turn."""
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def give(self) -> None:
        """Hand on to who has waited longest."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False


@dataclass
class Job:
    """An answer while it is computed. `tell` is called in the computing thread."""

    task: Task
    tell: Callable[[Piece], None]
    text: Text
    count: int = 0
    is_running: bool = False
    is_left: bool = False
    is_aborted: bool = False

    def take(self, drawn: Drawn) -> bool:
        """Take a token in and tell of it. Whether the answer has come to its end."""
        self.count += 1
        reason, stop = self._end(drawn.token)
        self.tell(Piece(self.text.release(reason is not None), drawn, reason, stop))
        return reason is not None

    def _end(self, token: int) -> tuple[str | None, str | int | None]:
        """Why the answer ends with this token. An end is no text unless it was asked for."""
        ending = self.task.ending
        if token in ending.tokens:
            return "stop", None
        if token in ending.stop_tokens:
            if ending.keep_stop:
                self.text.add(token)
            return "stop", token
        if stop := self.text.add(token):
            return "stop", stop
        return ("length" if self.count == ending.max_tokens else None), None


class Ended(Exception):
    """Nothing more is wanted of `generate`."""


class Generation:
    """All answers under way; at most `limit` at a time, the others wait."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
        self._tokenizer = tokenizer
        self._pool = ThreadPoolExecutor(limit, "answer")
        self._turns = Turns()
        self._jobs: list[Job] = []

    @property
    def running(self) -> int:
        return sum(job.is_running for job in tuple(self._jobs))

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    def abort(self) -> None:
        """End all answers at their next token, which then says so."""
        for job in tuple(self._jobs):  # the computing threads take theirs out
            job.is_aborted = True

    async def answer(self, tasks: Sequence[Task]) -> AsyncGenerator[tuple[int, Piece], None]:
        """The pieces of all answers as they come, with the number of the task. Closing it ends the work."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Piece] | asyncio.Future[None]]()

        def tell(number: int, piece: Piece) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, (number, piece))

        jobs = [Job(task, partial(tell, number), self._text(task)) for number, task in enumerate(tasks)]
        self._jobs += jobs
        try:
            for job in jobs:
                loop.run_in_executor(self._pool, self._work, job).add_done_callback(queue.put_nowait)
            left = len(jobs)
            while left:
                event = await queue.get()
                if isinstance(event, tuple):
                    yield event
                else:
                    event.result()
                    left -= 1
        finally:
            for job in jobs:
                job.is_left = True

    def _text(self, task: Task) -> Text:
        return Text(self._tokenizer, task.prompt, task.ending.stops, task.ending.keep_stop)

    def _work(self, job: Job) -> None:
        job.is_running = True
        self._turns.take()
        try:
            self._look(job)
            self._generate(job)
        except Ended:
            return
        finally:
            self._jobs.remove(job)
            self._turns.give()

    def _generate(self, job: Job) -> None:
        model, task = job.task.model, job.task
        prompt = torch.tensor([task.prompt], device=model.device)
        draw = Draw(task.sampling, model.device, partial(self._take, job))
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=GenerationConfig(max_new_tokens=task.ending.max_tokens, do_sample=False, pad_token_id=0),
            logits_processor=LogitsProcessorList([draw]),
        )

    def _take(self, job: Job, drawn: Drawn) -> None:
        if job.take(drawn):
            raise Ended
        if not hasattr(job.task.model, "_setup_cache"):  # else it remembers in its modules, as RecurrentGemma does
            self._turns.give()
            self._turns.take()
        self._look(job)

    def _look(self, job: Job) -> None:
        if job.is_aborted:
            job.tell(Piece(job.text.release(True), None, "abort"))
        if job.is_left or job.is_aborted:
            raise Ended
