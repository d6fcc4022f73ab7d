"""How fast a model answers where it is served: the benchmark's course, once before and once after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from studio import models
from studio.config.bench import BenchConfig
from studio.serving.benchmark.course import Course
from studio.serving.benchmark.figures import Measured
from studio.worker.stop import Requests

CLIENTS = (1, 8)
PROMPT_TOKENS, OUTPUT_TOKENS = 128, 64
CONTEXT_SHARE = 4  # a prompt or an answer has no more than a fourth of what the model takes
REQUESTS, LIMIT_S = 2, 20.0
STOP_POLL_S = 0.1


class Stopped(Exception):
    """A stop was asked for; the server is gone."""


@dataclass(frozen=True)
class Speed:
    """What was measured, by the number of clients; `failed` says why there is nothing."""

    measured: dict[int, Measured]
    failed: str = ""


def measure(model: Path, server: str, place: Path, requests: Requests, say: Callable[[str], None]) -> Speed:
    """Serve `model` by `server` (vllm, huggingface) below `place` and put the benchmark's load to it.

    Raises:
        Stopped: that was asked for.
    """
    longest = (models.check(model).max_position_embeddings or PROMPT_TOKENS * CONTEXT_SHARE) // CONTEXT_SHARE
    config = BenchConfig(
        model_name_or_path=str(model), variants=(server,), concurrency=CLIENTS, repeats=1, limit_s=LIMIT_S,
        prompt_tokens=(min(PROMPT_TOKENS, longest),), output_tokens=(min(OUTPUT_TOKENS, longest),),
        requests_per_client=REQUESTS,
    )  # fmt: skip
    place.mkdir(parents=True)
    course = Course(config, place, lambda done, total, eta_s, message: say(message))
    asyncio.run(_go(course, requests))
    return Speed({found.clients: found for found in course.measured}, course.failed.get(server, ""))


async def _go(course: Course, requests: Requests) -> None:
    going = asyncio.create_task(course.go())
    while not going.done() and not requests.stop:
        await asyncio.wait((going,), timeout=STOP_POLL_S)
    if not going.done():
        going.cancel()
        await asyncio.wait((going,))
        raise Stopped
    going.result()
