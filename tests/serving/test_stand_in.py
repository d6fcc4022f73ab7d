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
from tests.serving.conftest import BASE, wait_gone, wait_ready, wait_until

STOPPED_WITHIN_S = 2.0


def test_an_answer_that_a_stop_ends_says_so(start: Callable[..., Run]) -> None:
    run = start(infer_backend="huggingface")
    found = wait_ready(run)
    assert found.backend == "huggingface"

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
    base = Path(shutil.copytree(BASE, tmp_path / "wishful"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps({**config, "model_type": "wishful", "architectures": ["WishfulForCausalLM"]})
    )
    run = start(base)
    with pytest.raises(SidecarNotReady, match=r"wishful.*check config.json, or choose another model"):
        wait_ready(run)
    wait_gone(run, 10)
