"""Server-sent events: the JSON values in the stream of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx


async def values(response: httpx.Response, gather_s: float) -> AsyncIterator[Any]:
    """The value of each event, up to [DONE]; those that come within `gather_s` seconds are read together.

    Raises:
        json.JSONDecodeError: an event that is none.
        httpx.TransportError: the connection broke.
    """
    async for line in _lines(_gathered(response.aiter_bytes(), gather_s)):
        if line.startswith(b"data:"):
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return
            yield json.loads(data)


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines as the protocol knows them: httpx's end at any sign of Unicode that ends one, in mid-answer.

    What comes after the last one is an event that broke off.
    """
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line


async def _gathered(pieces: AsyncIterator[bytes], gather_s: float) -> AsyncIterator[bytes]:
    """The pieces, with a rest after each that had to be waited for: those that come meanwhile are read at once.

    Reading costs more than anything that is done with what was read.
    """
    loop, waited = asyncio.get_running_loop(), asyncio.Event()
    loop.call_soon(waited.set)  # which only happens while nothing is there to be read
    rest_s = 0.0  # none after the first piece, which only opens the answer: the first token may follow on its heels
    async for piece in pieces:
        yield piece
        if gather_s and waited.is_set():
            await asyncio.sleep(rest_s)
            rest_s = gather_s
            waited.clear()
            loop.call_soon(waited.set)
