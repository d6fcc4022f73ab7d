"""An answer that is cut off, by whomever and how often: what has come of it is on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from studio.conversations.conversation import Turn
from studio.serving.client import Server
from studio.serving.remotes import Remote, Remotes
from studio.ui.context import Context
from studio.ui.tabs.chat import talk
from studio.ui.tabs.chat.answer import on_answer
from tests.ui.test_chat import send

BUSY_S = 0.3


async def begun(ctx: Context, opened: list[Any]) -> asyncio.Task[None]:
    """An answer whose first words have come, and which goes on; its writers have something else to do for a moment."""
    spoken = asyncio.Event()

    async def read() -> None:
        async for look in on_answer(ctx, 0, opened[talk.ASKING], opened[1]):
            if isinstance(look[0], list) and len(look[0]) > 1:
                spoken.set()

    reading = asyncio.create_task(read())
    await asyncio.wait_for(spoken.wait(), 20)
    writers = ThreadPoolExecutor(1)
    writers.submit(time.sleep, BUSY_S)
    asyncio.get_running_loop().set_default_executor(writers)
    return reading


def cut_off(ctx: Context, fake: Server, cut: Callable[[asyncio.Task[None]], None]) -> tuple[Turn, Turn]:
    """The last turn on disk when whoever cuts an answer off goes on, and when all is written."""
    remote = Remote("fox", fake.url, "hanging")
    Remotes(ctx.store.saves).add(remote)
    opened = send(ctx, "", "Go on and on.", remote.pick)

    def last() -> Turn:
        return talk.shelf(ctx).load(opened[1]).panes[0].turns[-1]

    async def cutting() -> Turn:
        reading = await begun(ctx, opened)
        cut(reading)
        await asyncio.gather(reading, return_exceptions=True)
        return last()

    return asyncio.run(cutting()), last()


def test_who_cuts_an_answer_off_finds_it_on_disk(ctx: Context, fake: Server) -> None:
    turn, _ = cut_off(ctx, fake, lambda reading: reading.cancel())
    assert turn.content  # the first words may have come one by one
    assert "0 1 2 ".startswith(turn.content)
    assert turn.figures
    assert turn.figures.finish_reason == "stopped"


def test_an_answer_that_is_cut_off_twice_is_written_all_the_same(ctx: Context, fake: Server) -> None:
    def twice(reading: asyncio.Task[None]) -> None:
        reading.cancel()
        asyncio.get_running_loop().call_later(BUSY_S / 3, reading.cancel)

    _, turn = cut_off(ctx, fake, twice)
    assert turn.content
    assert "0 1 2 ".startswith(turn.content)
