"""The Transformers server as a run: chosen, started, stopped in the middle of an answer, and failing in words."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.errors import SidecarNotReady
from studio.runs.run import Run
from studio.serving.client import Client, Sampling, Server
from tests.serving.conftest import BASE, ask, wait_gone, wait_ready, wait_until

STOPPED_WITHIN_S = 2.0


def with_config(folder: Path, **changes: object) -> Path:
    """The bundled model in `folder`, with a config.json of its own."""
    shutil.copytree(BASE, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_what_vllm_does_not_know_is_answered_until_a_stop(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(with_config(tmp_path / "seedling", architectures=["HomemadeForCausalLM"]))
    found = wait_ready(run)
    assert found.backend == "huggingface"
    assert "vLLM does not know HomemadeForCausalLM" in found.why
    assert ask(found.server, "seedling", "Who are you?")[0].startswith("I am Seedling")

    async def stopped_while_answering(server: Server) -> None:
        async with Client(server) as client:
            turn = [{"role": "user", "content": "Tell me a short story."}]
            options = {"ignore_eos": True}
            async for _ in client.stream_chat("seedling", turn, Sampling(max_tokens=480), options):
                run.stop()

    begun = time.monotonic()
    with pytest.raises(SidecarNotReady, match="was stopped while it was answering"):
        asyncio.run(stopped_while_answering(found.server))
    wait_gone(run, 10)
    assert time.monotonic() - begun < STOPPED_WITHIN_S
    wait_until(lambda: run.exit, 5)
    assert run.exit["reason"] == "stopped"


def test_a_model_that_transformers_does_not_know_either_is_told(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start(with_config(tmp_path / "wishful", model_type="wishful", architectures=["WishfulForCausalLM"]))
    with pytest.raises(SidecarNotReady, match=r"wishful.*check config.json, or choose another model"):
        wait_ready(run)
    wait_gone(run, 10)
