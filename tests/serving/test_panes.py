"""Panes side by side, where one is slow, broken or stopped."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.serving.client import Sampling, Server
from studio.serving.panes import ROUNDS, Pane, Round, State, View

FAKE = Path(__file__).parents[1] / "fakes" / "openai_server.py"
FULL = "".join(f"{number} " for number in range(20))


@pytest.fixture(scope="module")
def fake() -> Iterator[Server]:
    """A server that is slow, breaks off or babbles, by the name of the model."""
    with subprocess.Popen([sys.executable, str(FAKE)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        yield Server(f"http://127.0.0.1:{int(child.stdout.readline())}")
        child.kill()


def panes(server: Server, *models: str) -> Round:
    return Round([Pane(server, model, ({"role": "user", "content": "hi"},), Sampling()) for model in models])


async def watch(round_: Round) -> list[tuple[float, tuple[View, ...]]]:
    begun = time.monotonic()
    return [(time.monotonic() - begun, views) async for views in round_.stream()]


def test_a_slow_pane_does_not_hold_up_a_fast_one(fake: Server) -> None:
    seen = asyncio.run(watch(panes(fake, "slow", "fast")))
    fast_done_s = next(at for at, views in seen if views[1].state is State.DONE)
    slow_done_s = next(at for at, views in seen if views[0].state is State.DONE)
    assert fast_done_s < 1.5 < slow_done_s
    final = seen[-1][1]
    assert [view.text for view in final] == [FULL, FULL]
    assert [view.tokens for view in final] == [20, 20]
    assert final[0].prompt_tokens == 5
    assert final[0].tokens_per_s == pytest.approx(1 / 0.3, rel=0.3)
    assert final[0].ttft_s == pytest.approx(0.3, abs=0.25)


def test_text_only_grows_and_comes_in_steps(fake: Server) -> None:
    texts = [views[0].text for _, views in asyncio.run(watch(panes(fake, "slow")))]
    assert len(texts) > 10
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_updates_are_bounded_by_the_clock(fake: Server) -> None:
    seen = asyncio.run(watch(panes(fake, "slow", "slow", "slow", "fast")))
    assert len(seen) <= seen[-1][0] / 0.05 + 2


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


def test_one_pane_is_stopped_by_id_from_another_thread(fake: Server) -> None:
    async def stop_the_first() -> tuple[View, ...]:
        round_ = panes(fake, "slow", "slow")
        async for views in round_.stream():
            if views[0].tokens == 3 and views[0].state is State.STREAMING:
                threading.Thread(target=lambda: ROUNDS[round_.id].stop(0)).start()
        return views

    first, second = asyncio.run(stop_the_first())
    assert first.state is State.STOPPED
    assert first.text.startswith("0 1 2 ")
    assert first.text != FULL
    assert (second.state, second.text) == (State.DONE, FULL)


def test_stopping_before_the_first_token(fake: Server) -> None:
    async def stop_at_once() -> tuple[View, ...]:
        round_ = panes(fake, "deaf", "fast")
        async for _ in round_.stream():
            round_.stop(0)
        return tuple(round_.views)

    deaf, fast = asyncio.run(stop_at_once())
    assert deaf.state is State.STOPPED
    assert fast.state is State.DONE


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


def test_ended_rounds_are_forgotten(fake: Server) -> None:
    round_ = panes(fake, "fast")
    name = round_.id
    asyncio.run(watch(round_))
    del round_
    assert name not in ROUNDS
