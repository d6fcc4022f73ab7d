"""The proof that base and adapter do not mix: it must find the very fault that it is there for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.serving import command, installed, port, probe
from studio.serving.adapters import Adapters
from studio.serving.child import Child
from studio.serving.client import Client, Server
from studio.serving.probe import Reference, Token
from tests.serving.conftest import BASE, apart

A = Token("1", -0.1, {"1": -0.1, "2": -2.5})
A_MOVED = Token("1", -0.3, {"1": -0.3, "2": -1.4})
B = Token("2", -0.1, {"2": -0.1, "1": -2.4})
ELSEWHERE = Token("9", -0.1, {"9": -0.1, "8": -3.0})


def test_equal_rows_do_not_differ() -> None:
    assert probe.difference([(A, B)], [(A, B)]) == 0.0


def test_the_largest_move_counts() -> None:
    assert probe.difference([(A, A), (A,)], [(A, A_MOVED), (A,)]) == pytest.approx(0.2)


def test_a_confident_other_answer_is_a_large_difference() -> None:
    assert probe.difference([(A,)], [(B,)]) == pytest.approx(2.3)
    assert probe.difference([(A,)], [(ELSEWHERE,)]) == pytest.approx(2.9)


def test_nothing_counts_after_the_texts_have_parted() -> None:
    near_tie = Token("2", -0.69, {"2": -0.69, "1": -0.7})
    expected = (Token("1", -0.69, {"1": -0.69, "2": -0.7}), A)
    assert probe.difference([expected], [(near_tie, ELSEWHERE)]) == pytest.approx(0.01)


def test_noise_widens_the_tolerance_but_cannot_hide_a_mix() -> None:
    assert Reference((), 0.0).tolerance == 0.1
    assert Reference((), 0.1).tolerance == pytest.approx(0.3)
    assert Reference((), 9.0).tolerance == 0.5


@asynccontextmanager
async def faulty_vllm(folder: Path) -> AsyncIterator[Client]:
    """vLLM as it comes: its own LoRA operators, and no empty slot behind the adapters."""
    server = Server(f"http://127.0.0.1:{port.claim(None)}", "key")
    config = ServeConfig(max_model_len=512, kv_cache_memory="64M", threads=2)
    options = command.options(config, int(server.url.rpartition(":")[2]), "cpu") | {"max-loras": 1, "max-cpu-loras": 4}
    (folder / "serve.yaml").write_text(command.to_yaml(options))
    environment = command.environment(config, server.api_key, "cpu", 2) | {"VLLM_PLUGINS": ""}
    child = await Child.start((*command.COMMAND, str(folder / "serve.yaml")), environment, folder)
    listening = asyncio.create_task(child.listen(lambda line: None))
    try:
        async with Client(server) as client:
            while not await client.health():
                assert not listening.done(), list(child.lines)[-20:]
                await asyncio.sleep(0.2)
            yield client
    finally:
        await child.end(politely=False)
        await listening


def load_into_faulty_vllm(adapter: Path, folder: Path) -> tuple[str, list[str]]:
    """What is said, and which models the server has afterwards."""

    async def load() -> tuple[str, list[str]]:
        async with faulty_vllm(folder) as client:
            adapters = Adapters(client, ServeConfig(model_name_or_path=str(BASE)), folder / "requests")
            await adapters.begin()
            with pytest.raises(ServingError) as caught:
                await adapters.load("stone", str(adapter))
            assert [model["name"] for model in adapters.models()] == ["seedling"]
            return str(caught.value), await client.models()

    return asyncio.run(load())


@pytest.mark.vllm
def test_the_fault_of_vllm_on_a_cpu_is_found_and_the_adapter_thrown_out(adapter: Path, tmp_path: Path) -> None:
    if installed.platform()[0] != "cpu":
        pytest.skip("only vLLM for CPUs has this fault")
    message, models = apart(load_into_faulty_vllm, adapter, tmp_path)
    assert "unloaded again" in message
    assert "base model's own answers change" in message
    assert models == ["seedling"]
