"""A model server on a CUDA device: it sleeps and is woken, and its memory is free again when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from studio import machine
from studio.config.serve import ServeConfig
from studio.machine import GB
from studio.runs.run import Run, State
from studio.serving import installed, memory, sleeping
from studio.serving.servers import Endpoint
from tests.serving.conftest import BASE, ask, start, wait_ready, wait_until

__all__ = ["start"]
pytestmark = [pytest.mark.gpu, pytest.mark.vllm]
SHARE = 0.3


@pytest.fixture(autouse=True)
def vllm_of_cuda() -> None:
    """Skips where vLLM is the one for CPUs, or none."""
    if not installed.architectures() or installed.platform()[0] != "cuda":
        pytest.skip("vLLM for CUDA is not installed")


def used_gb() -> float:
    return sum(gpu.used for gpu in machine.chosen(None)) / GB


@pytest.fixture
def sleeper(start: Callable[..., Run]) -> Endpoint:
    """The bundled model on a server that can sleep."""
    return wait_ready(start(BASE, gpu_memory_utilization=SHARE, enable_sleep_mode=True, enforce_eager=True))


def test_a_server_sleeps_is_woken_and_leaves_nothing_behind(sleeper: Endpoint) -> None:
    run, server = sleeper.run, sleeper.server
    said, _ = ask(server, "seedling", "What is 2 + 3?")
    awake_gb = used_gb()

    asyncio.run(sleeping.sleep(run))
    assert sleeping.is_asleep(run)
    assert used_gb() < 0.3 * awake_gb

    asyncio.run(sleeping.wake(run))
    assert not sleeping.is_asleep(run)
    assert ask(server, "seedling", "What is 2 + 3?")[0] == said

    run.stop()
    wait_until(lambda: run.exit, 30)
    assert run.state is State.STOPPED
    assert run.result["gpu_freed"], run.result
    assert run.result["after_gb"] == pytest.approx(used_gb(), abs=0.5)
    assert "the GPU's memory is free again" in run.status["message"]


def test_a_second_server_that_does_not_fit_is_told_before_it_starts(sleeper: Endpoint) -> None:
    config = ServeConfig(gpu_memory_utilization=0.95)
    said = memory.gpu_shortage(config, machine.chosen(None))
    assert said
    assert "lower gpu_memory_utilization to 0." in said


def test_phases_of_a_start_that_compiles(start: Callable[..., Run]) -> None:
    run = start(BASE, gpu_memory_utilization=SHARE)
    wait_ready(run)
    seconds = {phase["name"]: phase["seconds"] for phase in run.status["phases"]}
    assert list(seconds) == ["process", "weights", "compile", "KV cache", "adapters", "ready"]
    assert seconds["compile"] > 0.5
    run.stop()
    wait_until(lambda: run.exit, 30)
