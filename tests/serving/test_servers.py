"""Servers as runs: found, named, cleared away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.files import write_json
from studio.runs import launchers
from studio.runs.process import RUN_VARIABLE, Identity
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import servers
from studio.serving.kinds import smallest_rank

SERVER = {
    "host": "127.0.0.1", "port": 1234, "api_key": "k",
    "models": [
        {"name": "seedling", "base": True, "path": "/m/seedling", "rank": None},
        {"name": "fox", "base": False, "path": "/a/fox", "rank": 8},
    ],
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A living process to stand for a nanny."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.wait()


def running(store: Store, nanny: subprocess.Popen[bytes], base: str = "seedling") -> Run:
    run = store.create(ServeConfig(model_name_or_path=base))
    (run.path / "CLAIM").touch()
    write_json(run.path / "nanny.json", Identity.of(nanny.pid).to_json())
    return run


def test_a_server_is_found_by_its_base_while_it_lives(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    run = running(store, sleeper)
    assert servers.find(store, "seedling") == run
    assert servers.find(store, "/models/other") is None
    sleeper.kill()
    sleeper.wait()
    assert servers.find(store, "seedling") is None


def test_an_endpoint_appears_with_server_json_and_goes_with_the_stop(
    store: Store, sleeper: subprocess.Popen[bytes]
) -> None:
    run = running(store, sleeper)
    assert servers.endpoint(run) is None
    write_json(run.path / "server.json", SERVER)
    found = servers.endpoint(run)
    assert found
    assert found.server.url == "http://127.0.0.1:1234"
    assert (found.base, found.name_of("/a/fox"), found.name_of("/a/owl")) == ("/m/seedling", "fox", None)
    assert servers.endpoints(store) == [found]
    run.stop()
    assert servers.endpoint(run) is None


def test_the_file_of_a_dead_server_is_not_believed(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    run = running(store, sleeper)
    write_json(run.path / "server.json", SERVER)
    sleeper.kill()
    sleeper.wait()
    assert servers.endpoints(store) == []


def test_a_restart_that_two_people_press_starts_one_server(
    store: Store, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, begun = store.create(ServeConfig()), []
    write_json(ended.path / "exit.json", {"code": 0, "reason": "stopped"})

    def begin(store: Store, config: ServeConfig) -> Run:
        begun.append(config)
        return running(store, sleeper)

    monkeypatch.setattr(launchers, "begin", begin)
    with ThreadPoolExecutor(4) as pool:
        runs = {future.result() for future in [pool.submit(press, store, ended) for _ in range(4)]}
    assert len(runs) == len(begun) == 1
    assert begun[0].max_lora_rank == 64


def press(store: Store, run: Run) -> Run:
    return servers.restart(store, run, max_lora_rank=64)


def test_strays_of_lost_servers_are_killed_and_others_spared(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    lost, alive = store.create(ServeConfig()), running(store, sleeper)
    (lost.path / "CLAIM").touch()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as nanny:
        write_json(lost.path / "nanny.json", Identity.of(nanny.pid).to_json())
    strays = [_carrying(lost), _carrying(alive)]
    assert servers.clear_strays(store) == 1
    assert strays[0].wait(5) == -9
    assert strays[1].poll() is None
    strays[1].kill()
    strays[1].wait()


def _carrying(run: Run) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    child = subprocess.Popen(command, env={**os.environ, RUN_VARIABLE: str(run.path)}, stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.readline()
    child.stdout.close()
    return child


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/saves/20261122-013055-9f2c1a-fox/adapter", "20261122-013055-9f2c1a-fox"),
        ("/saves/20261122-013055-9f2c1a/checkpoints/checkpoint-20", "20261122-013055-9f2c1a-checkpoint-20"),
        ("/models/fox-lora", "fox-lora"),
    ],
)
def test_adapters_are_named_after_their_run(path: str, name: str) -> None:
    assert servers.adapter_name(path) == name


def test_ranks_are_rounded_up_to_what_vllm_knows() -> None:
    assert [smallest_rank(rank) for rank in (1, 8, 9, 48, 1024)] == [8, 8, 16, 64, 512]
