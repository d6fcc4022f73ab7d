"""One real server for most tests, and a LoRA adapter whose answers differ clearly from the base's."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from studio.runs import process
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import servers
from studio.serving.client import Client, Done, Sampling, Server
from studio.serving.servers import Endpoint
from studio.settings import ASSETS

BASE = ASSETS / "seedling"
SMALL = {"max_model_len": 512, "kv_cache_memory": "64M"}
GREEDY = Sampling(temperature=0.0, max_tokens=24)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rank-8 adapter on the bundled model that gives each question the answer of another one."""
    folder = tmp_path_factory.mktemp("adapters") / "stone"
    # a process of its own: torch must not stay in the one that runs all tests
    command = [sys.executable, str(Path(__file__).with_name("train_adapter.py")), str(BASE), str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"})
    return folder


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of several kinds, each in a folder of its own; see make_adapters.py."""
    folder = tmp_path_factory.mktemp("kinds")
    command = [sys.executable, str(Path(__file__).with_name("make_adapters.py")), str(BASE), str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"})
    return folder


@pytest.fixture(scope="session")
def expected(adapter: Path) -> dict[str, dict[str, str]]:
    """Greedy answers by Transformers and PEFT: "base" and "adapter", by question."""
    value: dict[str, dict[str, str]] = json.loads((adapter / "expected.json").read_text())
    return value


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An empty folder of runs."""
    return Store(tmp_path_factory.mktemp("saves"))


@pytest.fixture(scope="session")
def endpoint(store: Store) -> Iterator[Endpoint]:
    """The bundled model, served in float32 so that answers can be compared exactly."""
    run = servers.start(store, str(BASE), dtype="float32", **SMALL)
    yield wait_ready(run)
    run.stop_now()
    wait_gone(run, 10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a server of one's own; whatever is left of it dies with the test."""
    runs: list[Run] = []

    def _start(base: Path = BASE, **options: Any) -> Run:
        runs.append(servers.start(Store(tmp_path / "saves"), str(base), **{**SMALL, **options}))
        return runs[-1]

    yield _start
    for run in runs:
        process.kill(process.of_run(run.path), signal.SIGKILL)


def wait_ready(run: Run) -> Endpoint:
    """The run's endpoint, once it answers."""

    async def _wait() -> None:
        async for _ in servers.starting(run, timeout_s=240):
            pass

    asyncio.run(_wait())
    found = servers.endpoint(run)
    assert found
    return found


def wait_until(condition: Callable[[], Any], timeout_s: float) -> None:
    """Poll until `condition` holds; the test fails if it does not within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def wait_gone(run: Run, timeout_s: float) -> None:
    """Until no process of the run is left, its nanny aside."""
    # a killed process gives its environment back at once, and its memory some tenths of a second later
    wait_until(lambda: not (process.of_run(run.path) or run.process_alive("worker")), timeout_s)


def ask(server: Server, model: str, question: str, sampling: Sampling = GREEDY) -> tuple[str, Done]:
    """The whole answer to one question, and its figures."""
    return asyncio.run(answer(server, model, question, sampling))


async def answer(server: Server, model: str, question: str, sampling: Sampling = GREEDY) -> tuple[str, Done]:
    """The same, inside a running loop."""
    pieces = []
    async with Client(server) as client:
        async for event in client.stream_chat(model, [{"role": "user", "content": question}], sampling):
            if isinstance(event, Done):
                return "".join(pieces), event
            pieces.append(event.text)
    raise AssertionError("an answer ends with Done or an error")


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a process of its own: `Child.end` kills every child of the process it is in."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
