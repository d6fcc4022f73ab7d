"""Several answers to one prompt, streamed side by side. A slow or failing pane never holds up the others."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from weakref import WeakValueDictionary

from studio.errors import ServingError
from studio.serving.client import Client, Delta, Done, Message, Sampling, Server
from studio.serving.wording import SERVERS_OWN, Wording

FLUSH_S = 0.05  # a browser shows 20 steps a second as a flow


class State(StrEnum):
    """Where a pane is."""

    WAITING = "waiting"
    STREAMING = "streaming"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Pane:
    """What one pane asks, and whom."""

    server: Server
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    wording: Wording = SERVERS_OWN


@dataclass(frozen=True)
class View:
    """What one pane shows. `error` is a sentence; ttft_s the seconds to the first token."""

    state: State = State.WAITING
    text: str = ""
    tokens: int = 0
    prompt_tokens: int | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    finish_reason: str = ""
    error: str = ""


class Round:
    """One prompt put to all panes. Iterate over `stream()`; `stop(index)` ends one pane and keeps its text."""

    def __init__(self, panes: Sequence[Pane]) -> None:
        self.id = uuid.uuid4().hex
        self.panes = tuple(panes)
        self.views = [View() for _ in panes]
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        ROUNDS[self.id] = self

    async def stream(self) -> AsyncGenerator[tuple[View, ...], None]:
        """Views of all panes, at most every FLUSH_S seconds and only when one has changed; the last is final.

        Closing this iterator stops all panes.
        """
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._fill(index)) for index in range(len(self.panes))]
        shown: tuple[View, ...] = ()
        try:
            running: set[asyncio.Task[None]] = set(self._tasks)
            while running:
                _, running = await asyncio.wait(running, timeout=FLUSH_S)
                if (views := tuple(self.views)) != shown:
                    shown = views
                    yield views
        finally:
            self._cancel(range(len(self.panes)))
            ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        if broken := [end for end in ends if isinstance(end, Exception)]:
            raise broken[0]

    def stop(self, index: int | None = None) -> None:
        """Stop one pane, or all of them, from any thread. Those that have ended stay as they are."""
        chosen = range(len(self.panes)) if index is None else (index,)
        if self._loop:
            self._loop.call_soon_threadsafe(self._cancel, chosen)

    def _cancel(self, indices: Iterable[int]) -> None:
        for index in indices:
            if not self._tasks[index].done():
                self._tasks[index].cancel()
                self._change(index, state=State.STOPPED, finish_reason="stopped")

    async def _fill(self, index: int) -> None:
        pane = self.panes[index]
        try:
            async with Client(pane.server) as client:
                options = pane.wording.to_json()
                async for event in client.stream_chat(pane.model, pane.messages, pane.sampling, options):
                    self._show(index, event) if isinstance(event, Delta) else self._finish(index, event)
        except ServingError as error:
            self._change(index, state=State.FAILED, error=str(error))

    def _show(self, index: int, delta: Delta) -> None:
        self._change(
            index, state=State.STREAMING, text=self.views[index].text + delta.text, tokens=delta.tokens,
            ttft_s=delta.ttft_s, tokens_per_s=delta.tokens_per_s,
        )  # fmt: skip

    def _finish(self, index: int, done: Done) -> None:
        self._change(
            index, state=State.DONE, tokens=done.completion_tokens, prompt_tokens=done.prompt_tokens,
            ttft_s=done.ttft_s, tokens_per_s=done.tokens_per_s, finish_reason=done.finish_reason,
        )  # fmt: skip

    def _change(self, index: int, **changes: object) -> None:
        self.views[index] = replace(self.views[index], **changes)  # type: ignore[arg-type]


# rounds that somebody is iterating over, by id: a page's stop button knows no more than the id
ROUNDS: WeakValueDictionary[str, Round] = WeakValueDictionary()
