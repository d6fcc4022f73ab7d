"""Panes side by side, where one is slow, broken or stopped."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import aclosing
from typing import Any

import pytest

from studio.serving.client import Sampling, Server, Token, ToolCall
from studio.serving.panes import FLUSH_S, Pane, Round, State, View, answer

HI = ({"role": "user", "content": "hi"},)
PIECE = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
FULL = "".join(f"{number} " for number in range(20))


def panes(server: Server, *models: str) -> Round:
    return Round([Pane(server, model, HI, Sampling()) for model in models])


async def watch(round_: Round) -> list[tuple[float, tuple[View, ...]]]:
    begun = time.monotonic()
    return [(time.monotonic() - begun, views) async for views in round_.stream()]


def test_a_slow_pane_does_not_hold_up_a_fast_one(fake: Server) -> None:
    seen = asyncio.run(watch(panes(fake, "slow", "fast")))
    fast_done_s = next(at for at, views in seen if views[1].state is State.DONE)
    slow_done_s = next(at for at, views in seen if views[0].state is State.DONE)
    assert fast_done_s < 1 < slow_done_s
    final = seen[-1][1]
    assert [view.text for view in final] == [FULL, FULL]
    assert [view.tokens for view in final] == [20, 20]
    assert final[0].prompt_tokens == 5
    assert final[0].tokens_per_s == pytest.approx(1 / 0.1, rel=0.3)
    assert final[0].ttft_s == pytest.approx(0.1, abs=0.09)


def test_text_only_grows_and_comes_in_steps(fake: Server) -> None:
    texts = [views[0].text for _, views in asyncio.run(watch(panes(fake, "slow")))]
    assert len(texts) > 10
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_updates_are_bounded_by_the_clock(fake: Server) -> None:
    seen = asyncio.run(watch(panes(fake, "slow", "slow", "slow", "fast")))
    assert len(seen) <= seen[-1][0] / FLUSH_S + 2


def one(server: Server, model: str, **options: Any) -> list[View]:
    async def read() -> list[View]:
        return [view async for view in answer(Pane(server, model, HI, Sampling(), **options))]

    return asyncio.run(read())


def test_an_answer_at_full_speed_comes_in_few_steps(fake: Server) -> None:
    begun = time.monotonic()
    views = one(fake, "flood")
    seconds = time.monotonic() - begun
    assert views[-1].text == "".join(f"{number} " for number in range(4000))
    assert views[-1].tokens == 4000
    assert len(views) <= seconds / FLUSH_S + 3


def test_the_first_token_does_not_wait_for_the_clock(fake: Server) -> None:
    async def first() -> tuple[View, float]:
        stream, begun = answer(Pane(fake, "hanging", HI, Sampling())), time.monotonic()
        async with aclosing(stream):
            return await anext(stream), time.monotonic() - begun

    view, seconds = asyncio.run(first())
    assert (view.state, view.text[:2]) == (State.STREAMING, "0 ")
    assert view.ttft_s is not None
    assert seconds < view.ttft_s + FLUSH_S / 2


def test_thoughts_calls_and_probabilities_come_along(fake: Server) -> None:
    thinker, caller, sure = (one(fake, model)[-1] for model in ("thinker", "caller", "sure"))
    assert (thinker.reasoning, thinker.text) == ("They greet. So I.", "Hi")
    assert caller.tool_calls == (ToolCall("weather", '{"city": "Bern"}', "a"), ToolCall("time", "{}", "b"))
    assert (caller.finish_reason, caller.text) == ("tool_calls", "")
    assert sure.logprobs == (Token("Hi", -0.1, (("Hi", -0.1), ("Ho", -2.5))), Token("", -9999.0), Token("", -9999.0))


def test_tools_are_offered_also_where_the_server_cannot_take_calls_out(fake: Server) -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    assert one(fake, "parserless", tools=(tool,))[-1].text == FULL


@pytest.mark.parametrize("way", ["closed", "cancelled"])
def test_leaving_an_answer_closes_its_connection(way: str) -> None:
    async def leave() -> None:
        begun, gone = asyncio.Event(), asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + PIECE)
            await reader.read()  # until the other side hangs up
            gone.set()
            writer.close()

        async def look() -> None:
            async for view in answer(pane):
                assert view.text == "Hi"
                begun.set()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            pane = Pane(Server(f"http://127.0.0.1:{port}"), "it", HI, Sampling())
            if way == "closed":
                async with aclosing(answer(pane)) as stream:
                    await anext(stream)
            else:
                looking = asyncio.create_task(look())
                await begun.wait()
                looking.cancel()
            await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(leave())


def test_a_view_that_is_over_cannot_be_stopped() -> None:
    assert View(State.STREAMING, "a").stopped() == View(State.STOPPED, "a", finish_reason="stopped")
    assert View(State.FAILED, "a", error="no").stopped() == View(State.FAILED, "a", error="no")


@pytest.mark.parametrize(
    ("model", "reason"),
    [("broken", "broke off"), ("dying", "engine has stopped"), ("babble", "does not speak the OpenAI protocol")],
)
def test_a_failing_pane_fails_alone_and_keeps_what_it_had(fake: Server, model: str, reason: str) -> None:
    failed, fine = asyncio.run(watch(panes(fake, model, "fast")))[-1][1]
    assert failed.state is State.FAILED
    assert reason in failed.error
    assert failed.text == ("" if model == "babble" else "0 1 2 ")
    assert (fine.state, fine.text) == (State.DONE, FULL)


def test_leaving_the_loop_stops_everything(fake: Server) -> None:
    async def leave() -> tuple[Round, float]:
        round_, begun = panes(fake, "slow", "deaf"), time.monotonic()
        stream = round_.stream()
        await anext(stream)
        await stream.aclose()
        return round_, time.monotonic() - begun

    round_, seconds = asyncio.run(leave())
    assert [view.state for view in round_.views] == [State.STOPPED, State.STOPPED]
    assert seconds < 1
