"""Clients that ask a server at the same time, each its next question when the last is answered.

Lighter than the studio's own client: while 32 answers stream, what arrives is only stamped with its time, and read
when the answer is complete, so that the measuring takes little from what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from studio.errors import RequestFailed
from studio.serving.benchmark.figures import Answer
from studio.serving.benchmark.workload import Ask
from studio.serving.client import Server

TIMEOUT = httpx.Timeout(600.0, connect=5.0)
MESSAGE_MAX_CHARS = 300


async def volley(server: Server, model: str, asks: Sequence[Ask], clients: int, limit_s: float) -> list[Answer]:
    """Put `asks` to a server from `clients` clients; after `limit_s` seconds none begins another one.

    Raises:
        RequestFailed: a request was refused or broke off: the figures of the others would mean nothing.
    """
    begun, waiting = time.perf_counter(), iter(asks)
    connections = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    headers = {"Authorization": f"Bearer {server.api_key}"}
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=TIMEOUT, limits=connections, trust_env=False
    ) as http:
        client = _Client(http, model, begun)
        turns = [asyncio.create_task(client.ask_all(waiting, limit_s)) for _ in range(clients)]
        try:
            done = await asyncio.gather(*turns)
        finally:
            for turn in turns:
                turn.cancel()
    return list(itertools.chain.from_iterable(done))


class _Client:
    """What the clients of one volley share."""

    def __init__(self, http: httpx.AsyncClient, model: str, begun: float) -> None:
        self._http = http
        self._model = model
        self._begun = begun

    async def ask_all(self, waiting: Iterator[Ask], limit_s: float) -> list[Answer]:
        """Take one question after another from those that all clients share."""
        answers: list[Answer] = []
        for ask in waiting:
            answers.append(await self._answer(ask))
            if self._now() > limit_s:
                break
        return answers

    async def _answer(self, ask: Ask) -> Answer:
        payload = {
            "model": self._model, "prompt": list(ask.prompt), "max_tokens": ask.tokens, "ignore_eos": True,
            "temperature": 0.0, "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }  # fmt: skip
        asked, arrivals = self._now(), list[tuple[float, bytes]]()
        try:
            async with self._http.stream("POST", "/v1/completions", json=payload) as response:
                async for piece in response.aiter_raw():
                    arrivals.append((self._now(), piece))
        except httpx.HTTPError as error:
            raise RequestFailed(f"A request of the benchmark broke off: {error!r}") from None
        return read(asked, arrivals, response.status_code)

    def _now(self) -> float:
        return time.perf_counter() - self._begun


def read(asked_s: float, arrivals: Sequence[tuple[float, bytes]], status: int = 200) -> Answer:
    """The answer that a stream of server-sent events held: (seconds, bytes) as they arrived.

    Several tokens may arrive at once: the time since the last arrival is shared out among them. Between those that the
    first arrival brings no time is known, and there are no gaps.

    Raises:
        RequestFailed: the server refused, or the stream held an error or broke off.
    """
    if status != 200:
        body = b"".join(piece for _, piece in arrivals).decode(errors="replace")
        raise RequestFailed(f"The server refused a request of the benchmark: {body[:MESSAGE_MAX_CHARS]}")
    times, tokens = list[tuple[float, int]](), 0
    for at, event in _events(arrivals):
        now = _tokens(event, tokens)
        if now > tokens:
            times.append((at, now - tokens))
            tokens = now
    if not times:
        raise RequestFailed("The server answered a request of the benchmark with no token at all")
    gaps = [gap for earlier, later in itertools.pairwise(_together(times)) for gap in _shared(earlier, later)]
    return Answer(asked_s, times[0][0], times[-1][0], tokens, tuple(gaps))


def _events(arrivals: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, dict[str, Any]]]:
    """The events up to [DONE], each at the time at which its end arrived."""
    rest = b""
    for at, piece in arrivals:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            data = event.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return
            yield at, json.loads(data)
    raise RequestFailed("An answer to the benchmark broke off: the server closed the connection")


def _tokens(event: Mapping[str, Any], so_far: int) -> int:
    """How many tokens there are after an event: what the server counts, else one for every piece."""
    if error := event.get("error"):
        raise RequestFailed(f"The server broke off a request of the benchmark: {error}")
    if usage := event.get("usage"):
        return int(usage["completion_tokens"])
    return so_far + len(event.get("choices", ()))


def _together(times: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Tokens that arrived at the same moment, as one."""
    groups = itertools.groupby(times, key=lambda pair: pair[0])
    return [(at, sum(count for _, count in group)) for at, group in groups]


def _shared(earlier: tuple[float, int], later: tuple[float, int]) -> list[float]:
    return [(later[0] - earlier[0]) / later[1]] * later[1]
