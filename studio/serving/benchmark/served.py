"""A server as a way to answer: a serve run of its own, inside the benchmark's folder, gone when it was measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from studio.config.serve import ServeConfig
from studio.errors import SidecarNotReady
from studio.runs import launchers, process
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import servers
from studio.serving.benchmark import load
from studio.serving.benchmark.demand import Demand, watched
from studio.serving.benchmark.figures import Answer
from studio.serving.benchmark.workload import Ask
from studio.serving.client import Client
from studio.serving.servers import Endpoint

GONE_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True)
class Answering:
    """A server that answers, and its processes."""

    endpoint: Endpoint
    members: frozenset[psutil.Process]

    async def put(self, asks: Sequence[Ask], clients: int, limit_s: float) -> tuple[list[Answer], Demand]:
        """The answers that so many clients get, each asking again when its answer is complete.

        Raises:
            RequestFailed: a request was refused or broke off.
        """
        name = next(model.name for model in self.endpoint.served if model.is_base)
        async with Client(self.endpoint.server) as client, watched(self.members, client) as watch:
            answers = await load.volley(self.endpoint.server, name, asks, clients, limit_s)
            return answers, watch.demand()


@asynccontextmanager
async def opened(store: Store, config: ServeConfig, tell: Callable[[str], None]) -> AsyncIterator[Answering]:
    """A server started anew; it ends with the block. `tell` hears how far its start is.

    Raises:
        SidecarNotReady: it could not be started, with the reason.
    """
    run = launchers.begin(store, config)
    try:
        async for status in servers.starting(run):
            tell(str(status.get("message", "")))
        endpoint = servers.endpoint(run)
        if endpoint is None:
            raise SidecarNotReady(run.reason or f"The model server {run.id} was stopped")
        yield Answering(endpoint, frozenset(process.of_run(run.path)))
    finally:
        run.stop()
        await _gone(run)  # the next server needs the memory of this one


async def _gone(run: Run) -> None:
    """Until the last process of the run has ended; one that will not is killed."""
    deadline = asyncio.get_running_loop().time() + GONE_S
    while process.of_run(run.path) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_S)
    process.kill(process.of_run(run.path))
