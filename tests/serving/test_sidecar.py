"""Servers that are stopped, killed or broken: what is said, and that nothing is left running."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.errors import ServingError, SidecarNotReady
from studio.runs import process
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.serving import servers
from studio.serving.client import Client, Sampling, Server
from tests.serving.conftest import BASE, SMALL, ask, wait_gone, wait_ready, wait_until
from tests.stopwatch import Stopwatch, kept

pytestmark = pytest.mark.vllm
GONE_S = 2.0
GONE_AT_LAST_S = 20.0  # on a machine that has a lot else to do
Starter = Callable[..., Run]


def copy_base(folder: Path) -> Path:
    """The bundled model, to be spoiled."""
    return Path(shutil.copytree(BASE, folder / "model"))


def wait_ended(run: Run, timeout_s: float = 60) -> None:
    wait_until(lambda: run.exit, timeout_s)
    assert not process.of_run(run.path)


def pid_of(run: Run, name: str) -> int:
    return int(json.loads((run.path / f"{name}.json").read_text())["pid"])


def child_of(run: Run, title: str) -> psutil.Process:
    """The run's process whose command line begins with `title`."""
    return next(member for member in process.of_run(run.path) if member.cmdline()[0].startswith(title))


def saying(run: Run, message: str) -> Callable[[], bool]:
    return lambda: run.status.get("message") == message


@pytest.mark.parametrize("message", ["starting the processes", "starting the worker process"])
def test_stop_while_starting(start: Starter, message: str) -> None:
    def stopped_after_s() -> float:
        run = start()
        wait_until(saying(run, message), 120)
        time.sleep(0.5)
        with Stopwatch() as watch:
            run.stop()
            wait_gone(run, GONE_AT_LAST_S)
            gone_after_s = watch.seconds
        wait_ended(run)
        assert run.state is State.STOPPED
        assert not (run.path / "server.json").exists()
        return gone_after_s

    assert kept(GONE_S, stopped_after_s)


def test_stop_with_a_stream_running(start: Starter) -> None:
    def stopped_after_s() -> float:
        run = start()
        said, gone_after_s = asyncio.run(_cut_off(run, wait_ready(run).server))
        assert "stopped" in said or "broke off" in said
        wait_ended(run)
        assert run.state is State.STOPPED
        assert servers.endpoint(run) is None
        assert not (run.path / "server.json").exists()
        return gone_after_s

    assert kept(GONE_S, stopped_after_s)


async def _cut_off(run: Run, server: Server) -> tuple[str, float]:
    """What an answer ends with when its server is stopped, and after how many seconds nothing is left of that."""
    # hot enough to babble on for longer than the stop takes
    turn, babble = [{"role": "user", "content": "Tell me a short story."}], Sampling(temperature=2.0, max_tokens=480)
    async with Client(server) as client:
        stream = client.stream_chat("seedling", turn, babble)
        await anext(stream)
        with Stopwatch() as watch:
            run.stop()
            said = await _drain(stream)
            await asyncio.to_thread(wait_gone, run, GONE_AT_LAST_S)
            return said, watch.seconds


async def _drain(stream: AsyncIterator[Any]) -> str:
    try:
        async for _ in stream:
            pass
    except ServingError as error:
        return str(error)
    return "the answer was finished"


@pytest.mark.parametrize(("victim", "reason"), [("engine", "ended"), ("api", "killed by SIGKILL")])
def test_a_killed_process_of_vllm_fails_the_run(start: Starter, victim: str, reason: str) -> None:
    run = start()
    wait_ready(run)
    os.kill(run.server["pid"] if victim == "api" else child_of(run, "VLLM::EngineCore").pid, signal.SIGKILL)
    wait_ended(run)
    assert run.state is State.FAILED
    assert reason in run.reason
    assert not (run.path / "server.json").exists()


def test_kill_of_the_worker_takes_vllm_along(start: Starter) -> None:
    def gone_after_s() -> float:
        run = start()
        wait_until(saying(run, "starting the worker process"), 120)
        with Stopwatch() as watch:
            os.kill(pid_of(run, "worker"), signal.SIGKILL)
            wait_gone(run, GONE_AT_LAST_S)
            seconds = watch.seconds
        wait_ended(run)
        assert run.state is State.FAILED
        return seconds

    assert kept(GONE_S, gone_after_s)


def test_a_server_without_its_nanny_shuts_down(start: Starter) -> None:
    def gone_after_s() -> float:
        run = start()
        wait_until(saying(run, "starting the engine process"), 120)
        with Stopwatch() as watch:
            os.kill(pid_of(run, "nanny"), signal.SIGKILL)
            wait_gone(run, GONE_AT_LAST_S)
            seconds = watch.seconds
        assert run.state is State.FAILED
        assert "Start it again" in run.reason
        return seconds

    assert kept(GONE_S + 1, gone_after_s)


def test_no_process_outlives_nanny_and_worker_killed_together(start: Starter) -> None:
    run = start()
    wait_ready(run)
    for name in ("nanny", "worker"):
        os.kill(pid_of(run, name), signal.SIGKILL)
    wait_gone(run, GONE_S)


def test_a_full_disk_does_not_end_a_server_that_answers(small_disk: Path) -> None:
    run = servers.start(Store(small_disk / "saves"), str(BASE), infer_backend="huggingface", **SMALL)
    try:
        server = wait_ready(run).server
        _fill(small_disk / "filler")
        written_at = run.status["at"]
        for _ in range(20):
            assert ask(server, "seedling", "What is 2 + 3?")[0]
        time.sleep(5)
        assert run.status["at"] == written_at  # the heartbeat cannot be written
        assert ask(server, "seedling", "What is 2 + 3?")[0]
        (small_disk / "filler").unlink()
        wait_until(lambda: run.status["at"] > written_at, 10)
        run.stop()
        wait_ended(run)
        assert run.state is State.STOPPED
    finally:
        process.kill(process.of_run(run.path))


def _fill(path: Path) -> None:
    with suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(b"x" * 512):
            pass


def test_missing_model(start: Starter, tmp_path: Path) -> None:
    run = start(tmp_path / "nowhere")
    wait_ended(run, 20)
    assert run.error["kind"] == "ModelError"
    assert str(tmp_path / "nowhere") in run.reason


def test_truncated_weights_are_found_before_vllm_starts(start: Starter, tmp_path: Path) -> None:
    folder = copy_base(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    run = start(folder)
    wait_ended(run, 20)
    assert run.error["kind"] == "ModelError"
    assert "model.safetensors is damaged" in run.reason
    assert not (run.path / "serve.yaml").exists()


def test_weights_that_do_not_fit_the_config_show_the_workers_words(start: Starter, tmp_path: Path) -> None:
    folder = copy_base(tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "intermediate_size": config["intermediate_size"] * 2}))
    run = start(folder)
    wait_ended(run, 200)
    assert run.state is State.FAILED
    assert "Engine core initialization failed" not in run.reason
    assert "Error" in run.reason


def test_unknown_architecture(start: Starter, tmp_path: Path) -> None:
    folder = copy_base(tmp_path)
    path = folder / "config.json"
    changes = {"architectures": ["PigeonForCausalLM"], "model_type": "pigeon"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    run = start(folder)  # vLLM does not know it, and neither does the stand-in
    wait_ended(run, 120)
    assert "pigeon" in run.reason
    assert "check config.json" in run.error["hint"]


def test_too_long_a_context(start: Starter) -> None:
    run = start(max_model_len=1_000_000)
    wait_ended(run, 120)
    assert "max_model_len" in run.error["message"]
    assert "Lower max_model_len" in run.error["hint"]


def test_an_option_that_vllm_does_not_have(start: Starter) -> None:
    run = start(vllm_args="make-it-faster=3")
    wait_ended(run, 120)
    assert "--make-it-faster" in run.error["message"]
    assert "vllm_args" in run.error["hint"]


def test_out_of_memory_at_the_start(start: Starter) -> None:
    run = start(kv_cache_memory="2G")
    wait_until(saying(run, "starting the engine process"), 120)
    # the worker, which may live by now, is to get less than its cache: as if others had taken the rest meanwhile
    server = psutil.Process(_servers(run, "api_server")[0].pid)
    server.rlimit(psutil.RLIMIT_DATA, (3 << 29, 3 << 29))
    for child in server.children(recursive=True):
        child.rlimit(psutil.RLIMIT_DATA, (3 << 29, 3 << 29))
    wait_ended(run, 200)
    assert run.state is State.FAILED
    assert "allocate memory" in run.reason
    assert "lower kv_cache_memory" in run.error["hint"]


def test_a_server_that_the_kernel_ends_for_lack_of_memory(start: Starter, small_group: Path) -> None:
    run = start(infer_backend="huggingface")
    wait_until(lambda: _servers(run, "stand_in"), 60)
    (small_group / "cgroup.procs").write_text(str(_servers(run, "stand_in")[0].pid))
    wait_ended(run)
    assert "the machine ran out of memory" in run.reason
    assert "choose a smaller model" in run.error["hint"]


def test_a_template_that_is_broken_is_told_before_anything_starts(start: Starter, tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% for message in messages %}{{ message }}")
    run = start(chat_template=str(path))
    wait_ended(run, 20)
    assert f"{path}, line 1" in run.reason
    assert not (run.path / "serve.yaml").exists()


def test_a_port_that_is_taken_is_told_before_anything_starts(start: Starter) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        run = start(port=owner.getsockname()[1])
        wait_ended(run, 20)
    assert "is taken by" in run.reason
    assert not (run.path / "serve.yaml").exists()


def test_a_hundred_quick_clicks_leave_nothing_behind(tmp_path: Path) -> None:
    store, chance = Store(tmp_path / "saves"), random.Random(5)
    most = 0
    for number in range(50):
        run = servers.start(store, str(BASE), **SMALL)
        time.sleep(chance.choice((0.0, 0.05, 0.3)))
        if number % 12 == 11:  # now and then the click comes when vLLM is there
            wait_until(lambda run=run: _servers(run, "api_server"), 30)
        run.stop()
        most = max(most, sum("vllm.entrypoints.openai.api_server" in _command_line(each) for each in _below(store)))
    wait_until(lambda: not any(run.is_active for run in store.list()), 60)
    assert most == 1
    assert {run.state for run in store.list()} == {State.STOPPED}
    assert _below(store) == []


def _below(store: Store) -> list[psutil.Process]:
    """Every process of any run of a store: what bears its name."""
    return [each for each in psutil.process_iter() if _run_of(each).startswith(str(store.saves))]


def _run_of(member: psutil.Process) -> str:
    try:
        return member.environ().get(process.RUN_VARIABLE, "")
    except (psutil.Error, OSError):
        return ""


def _servers(run: Run, module: str) -> list[psutil.Process]:
    """The first process of vLLM (api_server) or of the stand-in below this run, while it lives."""
    return [
        each for each in process.of_run(run.path) if any(word.endswith(f".{module}") for word in _command_line(each))
    ]


def _command_line(member: psutil.Process) -> list[str]:
    try:
        return member.cmdline()
    except psutil.Error:
        return []


def test_a_server_that_nobody_asks_stops_itself(start: Starter) -> None:
    run = start(infer_backend="huggingface", idle_stop_minutes=0.05)
    wait_ready(run)
    wait_ended(run)
    assert run.state is State.STOPPED
    assert run.status["message"] == "stopped after 0.05 idle minutes"
    assert run.result == {"stopped": True}
    assert list(json.loads((run.path / "startup.json").read_text())["seconds"]) == ["process", "weights", "adapters"]


def test_a_start_for_a_base_that_is_served_is_the_same_server(start: Starter) -> None:
    run = start()
    assert start() == run
    run.stop_now()
    wait_ended(run)


def test_waiting_for_a_server_that_fails_tells_why(start: Starter, tmp_path: Path) -> None:
    run = start(tmp_path / "nowhere")
    with pytest.raises(SidecarNotReady, match="nowhere"):
        wait_ready(run)
