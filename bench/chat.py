"""What the studio adds to a model server: to its first token, to four answers at once, to a long answer on the page.

    python -m bench.chat [MODEL]

Direct is a plain HTTP client on one open connection that reads as little as it can. Direct and studio take turns, so
that both meet the same machine; the rows of the page need Chromium and a server that sends faster than any model.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx

from bench.serving import until_ready
from studio import models
from studio.runs.store import Store
from studio.serving import panes, servers
from studio.serving.client import Sampling, Server
from studio.serving.panes import Pane
from studio.settings import ROOT

ROUNDS = 40
VOLLEYS = 5
PANES = 4
LONG_TOKENS = 256
TURN = ({"role": "user", "content": "Tell me a short story about a fox, a lake and a lost key, as slowly as you can."},)
FAKE = ROOT / "tests" / "fakes" / "openai_server.py"

Row = tuple[str, str, str]


def main(model: str = "seedling") -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        data, saves = Path(folder, "data"), Path(folder, "saves")
        shutil.copytree(ROOT / "data", data)
        rows = [*server_rows(saves, models.resolve(model)), *page_rows(saves, data)]
    print(f"\n{'the studio between a model server and its reader':<66}{'measured':>22}{'goal':>12}")
    for name, measured, goal in rows:
        print(f"{name:<66}{measured:>22}{goal:>12}")


def server_rows(saves: Path, model: str) -> Iterator[Row]:
    """First token and throughput of a real server, straight from it and through the studio's panes."""
    run = servers.start(Store(saves), model)
    try:
        asyncio.run(until_ready(run))
        found = servers.endpoint(run)
        assert found
        name = found.served[0].name
        yield from asyncio.run(first_token_rows(found.server, name))
        yield from asyncio.run(volley_rows(found.server, name))
    finally:
        run.stop()


async def first_token_rows(server: Server, model: str) -> list[Row]:
    """One question at a time: the wait for the first piece of text."""
    sampling = Sampling(temperature=0.0, max_tokens=4)
    async with direct(server) as http:

        async def straight() -> float:
            return (await read_directly(http, model, sampling))[0]

        async def through() -> float:
            begun = time.perf_counter()
            async for view in panes.answer(Pane(server, model, TURN, sampling)):
                if view.text:
                    return time.perf_counter() - begun
            raise AssertionError("no answer")

        plain, added = await in_turns(ROUNDS, straight, through)
    difference = [later - earlier for earlier, later in zip(plain, added, strict=True)]
    return [
        ("first token, direct, ms (median)", f"{1e3 * statistics.median(plain):.1f}", ""),
        ("first token, through a pane, ms (median)", f"{1e3 * statistics.median(added):.1f}", ""),
        ("  added, ms (median of the differences)", f"{1e3 * statistics.median(difference):.1f}", "10"),
    ]


async def volley_rows(server: Server, model: str) -> list[Row]:
    """Four answers at once: tokens per second of all together."""
    wanted = [Sampling(temperature=2.0, max_tokens=LONG_TOKENS, seed=seed) for seed in range(PANES)]
    async with direct(server) as http:

        async def straight() -> float:
            begun = time.perf_counter()
            counts = await asyncio.gather(*(read_directly(http, model, sampling) for sampling in wanted))
            return sum(count for _, count in counts) / (time.perf_counter() - begun)

        async def through() -> float:
            begun = time.perf_counter()
            counts = await asyncio.gather(*(fill_pane(Pane(server, model, TURN, sampling)) for sampling in wanted))
            return sum(counts) / (time.perf_counter() - begun)

        plain, shown = await in_turns(VOLLEYS, straight, through)
    share = statistics.median(through / straight for straight, through in zip(plain, shown, strict=True))
    return [
        (f"{PANES} raw clients, tokens/s together (median)", f"{statistics.median(plain):.0f}", ""),
        (f"{PANES} panes, tokens/s together (median)", f"{statistics.median(shown):.0f}", ""),
        ("  panes / raw clients", f"{share:.1%}", "90%"),
    ]


async def in_turns(
    rounds: int, first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]]
) -> tuple[list[float], list[float]]:
    """Readings of both, taken one after the other and each first in every second round; one of each is thrown away."""
    readings: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        order = (first, second) if turn % 2 else (second, first)
        taken = {measure: await measure() for measure in order}
        readings[0].append(taken[first])
        readings[1].append(taken[second])
    return readings[0][1:], readings[1][1:]


def direct(server: Server) -> httpx.AsyncClient:
    """A client that keeps its connections."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=600, trust_env=False)


async def read_directly(http: httpx.AsyncClient, model: str, sampling: Sampling) -> tuple[float, int]:
    """Seconds to the first piece of text, and how many tokens there were."""
    payload = {
        "model": model, "messages": list(TURN), "stream": True, "stream_options": {"include_usage": True},
        **sampling.to_json(),
    }  # fmt: skip
    begun, first, body = time.perf_counter(), 0.0, b""
    async with http.stream("POST", "/v1/chat/completions", json=payload) as response:
        async for piece in response.aiter_raw():
            body += piece
            if not first and b'"content":"' in body.replace(b'"content":""', b""):
                first = time.perf_counter() - begun
    usage = next(line for line in reversed(body.splitlines()) if b'"completion_tokens"' in line)
    return first, int(json.loads(usage.removeprefix(b"data: "))["usage"]["completion_tokens"])


async def fill_pane(pane: Pane) -> int:
    """The tokens of a whole answer."""
    views = [view async for view in panes.answer(pane)]
    assert not views[-1].error, views[-1].error
    return views[-1].tokens


def page_rows(saves: Path, data: Path) -> Iterator[Row]:
    """Answers on a page."""
    return iter(())


if __name__ == "__main__":
    main(*sys.argv[1:2])
