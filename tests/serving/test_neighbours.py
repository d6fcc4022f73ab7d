"""Which servers a training is asked about, and that they are gone when they were told to go."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.config.serve import ServeConfig
from studio.errors import SidecarNotReady
from studio.files import write_json
from studio.machine import GB, Gpu, Machine
from studio.runs import launchers, process
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.serving import neighbours
from tests.serving.conftest import wait_until

CPU = Machine(None, int(2 * GB), int(99 * GB))
H100 = Machine(Gpu(1, "H100", int(80 * GB), int(70 * GB), 0), int(99 * GB), int(99 * GB))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def up(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """A real run of kind serve, whose worker heeds STOP: `up(devices="0,1")`."""
    monkeypatch.setitem(launchers.WORKERS, "serve", "tests.fakes.worker")

    def up(**options: Any) -> Run:
        run = store.create(ServeConfig(**options))
        write_json(run.path / "fake.json", [["heed"]])
        launchers.start(run)
        wait_until(lambda: run.process_alive("worker"), 10)
        return run

    yield up
    for run in store.list():
        process.kill(process.of_run(run.path), signal.SIGKILL)


def test_on_a_cpu_all_are_in_the_way_of_what_does_not_fit(store: Store, up: Callable[..., Run]) -> None:
    run = up(run_name="talker")
    assert neighbours.in_the_way(store, CPU, 1.9) == ()
    assert neighbours.in_the_way(store, CPU, None) == ()
    [found] = neighbours.in_the_way(store, CPU, 2.1)
    assert found.run == run
    assert 0.002 < found.held_gb < 1
    assert "held by the model server talker (0.0 GB)" in neighbours.sentence([found])


def test_on_a_gpu_those_of_the_same_one_are(store: Store, up: Callable[..., Run]) -> None:
    elsewhere, named, anywhere = up(devices="0,2"), up(devices="0,1"), up(gpu_memory_utilization=0.25)
    found = {each.run.id: each.held_gb for each in neighbours.in_the_way(store, H100, 1.0)}
    assert elsewhere.id not in found
    assert found == {named.id: pytest.approx(0.85 * 80), anywhere.id: pytest.approx(20)}


def test_one_that_sleeps_is_in_nobodys_way(store: Store, up: Callable[..., Run]) -> None:
    run = up(enable_sleep_mode=True)
    [found] = neighbours.in_the_way(store, H100, 1.0)
    assert not found.can_sleep  # it does not answer yet
    write_json(run.path / "server.json", {"asleep": False})
    assert found.can_sleep
    write_json(run.path / "server.json", {"asleep": True})
    assert neighbours.in_the_way(store, H100, 1.0) == ()


def test_stopped_means_gone(store: Store, up: Callable[..., Run]) -> None:
    runs = [up(), up()]
    neighbours.stop(neighbours.in_the_way(store, CPU, 3.0))
    assert [run.state for run in runs] == [State.STOPPED] * 2
    assert not any(process.of_run(run.path) for run in runs)


def test_a_server_that_ends_instead_of_sleeping_is_said(store: Store, up: Callable[..., Run]) -> None:
    run = up()
    found = neighbours.in_the_way(store, CPU, 3.0)
    run.stop()
    with pytest.raises(SidecarNotReady, match="stopped"):
        neighbours.send_to_sleep(found)
