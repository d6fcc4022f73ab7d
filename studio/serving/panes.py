"""Several answers to one prompt, streamed side by side. A slow or failing pane never holds up the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from studio.errors import ServingError
from studio.serving.client import Client, Delta, Done, Message, Sampling, Server, Token, ToolCall
from studio.serving.wording import SERVERS_OWN, Wording

FLUSH_S = 0.05  # a browser shows 20 steps a second as a flow
GATHER_S = 0.01  # tokens that come within this are read together


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
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """What the request says beside the messages and the sampling."""
        return {**self.wording.to_json(), **({"tools": list(self.tools)} if self.tools else {})}


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
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Token, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in (State.WAITING, State.STREAMING)

    def stopped(self) -> View:
        """The same where somebody has stopped it; one that is over stays as it is."""
        return self if self.is_over else replace(self, state=State.STOPPED, finish_reason="stopped")


async def answer(pane: Pane) -> AsyncGenerator[View, None]:
    """The answer as it grows: its first token at once, then at most every FLUSH_S seconds; the last view is final.

    Closing this closes the connection, and with it the server's work.
    """
    draft = _Draft()
    writing = asyncio.create_task(draft.fill(pane))
    try:
        await draft.begun.wait()
        while not writing.done():
            if draft.is_new:
                yield draft.view()
            await asyncio.wait([writing], timeout=FLUSH_S)
        writing.result()
        yield draft.view()
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


class _Draft:
    """An answer while it comes in: pieces are cheap to take, and joined when somebody looks."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()  # or ended before it began
        self.is_new = False
        self._last: Delta | None = None
        self._end: Done | None = None
        self._error = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[Token] = []

    async def fill(self, pane: Pane) -> None:
        """Take the whole answer in."""
        try:
            async with Client(pane.server, gather_s=GATHER_S) as client:
                async for event in client.stream_chat(pane.model, pane.messages, pane.sampling, pane.options):
                    self._take(event)
        except ServingError as error:
            self._error = str(error)
        finally:
            self.begun.set()

    def view(self) -> View:
        """The answer so far."""
        self.is_new = False
        self._text, self._reasoning = ["".join(self._text)], ["".join(self._reasoning)]
        last = self._end or self._last
        view = View(
            text=self._text[0], reasoning=self._reasoning[0], logprobs=tuple(self._logprobs), error=self._error,
            state=State.FAILED if self._error else State.DONE if self._end else State.STREAMING,
        )  # fmt: skip
        return replace(view, **_figures(last)) if last else view

    def _take(self, event: Delta | Done) -> None:
        self.is_new = True
        if isinstance(event, Done):
            self._end = event
            return
        self._last = event
        self._text.append(event.text)
        self._reasoning.append(event.reasoning)
        self._logprobs += event.logprobs
        self.begun.set()


def _figures(event: Delta | Done) -> dict[str, Any]:
    shared = {"ttft_s": event.ttft_s, "tokens_per_s": event.tokens_per_s, "tool_calls": event.tool_calls}
    if isinstance(event, Delta):
        return {**shared, "tokens": event.tokens}
    end = {"prompt_tokens": event.prompt_tokens, "finish_reason": event.finish_reason}
    return {**shared, **end, "tokens": event.completion_tokens}


class Round:
    """One prompt put to all panes at once. `views` are their newest, also after `stream` was left."""

    def __init__(self, panes: Sequence[Pane]) -> None:
        self.views = [View() for _ in panes]
        self._panes = tuple(panes)

    async def stream(self) -> AsyncGenerator[tuple[View, ...], None]:
        """Views of all panes, at most every FLUSH_S seconds and only when one has changed; the last is final.

        Closing this iterator stops all panes.
        """
        tasks = [asyncio.create_task(self._fill(index)) for index in range(len(self._panes))]
        running: set[asyncio.Task[None]] = set(tasks)
        shown: tuple[View, ...] = ()
        try:
            while running:
                _, running = await asyncio.wait(running, timeout=FLUSH_S)
                if (views := tuple(self.views)) != shown:
                    shown = views
                    yield views
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            self.views = [view.stopped() for view in self.views]
        if broken := [end for end in ends if isinstance(end, Exception)]:
            raise broken[0]

    async def _fill(self, index: int) -> None:
        async for view in answer(self._panes[index]):
            self.views[index] = view
