"""Real runs with small programs as workers; every test ends with all of its processes gone."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from studio.config.load import RunConfig
from studio.config.train import TrainConfig
from studio.runs import launchers, process
from studio.runs.run import Run
from studio.runs.store import Store
from studio.settings import ROOT

Step = list[Any]
FAKE = [sys.executable, "-m", "tests.fakes.worker"]
CONFIG = TrainConfig(dataset="identity", run_name="fake")


class Until(Protocol):
    def __call__(self, condition: Callable[[], Any], within_s: float = 15) -> Any: ...


class Prepare(Protocol):
    def __call__(self, *steps: Step, config: RunConfig = CONFIG) -> Run: ...


class Begin(Protocol):
    def __call__(self, *steps: Step, wait: bool = False) -> Run: ...


@pytest.fixture(scope="session")
def until() -> Until:
    """Wait for a condition to hold and return its value; the test fails where it does not in time."""

    def until(condition: Callable[[], Any], within_s: float = 15) -> Any:
        deadline = time.monotonic() + within_s
        while not (value := condition()):
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.01)
        return value

    return until


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def prepare(store: Store) -> Prepare:
    """A run that is not started, whose worker will do `steps`."""

    def prepare(*steps: Step, config: RunConfig = CONFIG) -> Run:
        run = store.create(config)
        (run.path / "fake.json").write_text(json.dumps(steps))
        return run

    return prepare


@pytest.fixture
def begin(prepare: Prepare, fake_workers: None, cleared: None) -> Begin:
    """A started run whose worker does `steps`."""

    def begin(*steps: Step, wait: bool = False) -> Run:
        run = prepare(*steps)
        launchers.start(run, wait)
        return run

    return begin


@pytest.fixture
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in launchers.WORKERS:
        monkeypatch.setitem(launchers.WORKERS, kind, "tests.fakes.worker")


@pytest.fixture
def cleared(store: Store, until: Until) -> Iterator[None]:
    """Whatever the test leaves running is stopped, and must go."""
    yield
    for run in store.list():
        run.stop_now()
    until(lambda: not any(_processes(run) for run in store.list()))


def _processes(run: Run) -> bool:
    return run.process_alive("nanny") or run.process_alive("worker") or bool(process.of_run(run.path))


@pytest.fixture
def nurse(cleared: None) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A nanny as a child of the test, given any module and command."""
    nannies: list[subprocess.Popen[bytes]] = []

    def nurse(run: Run, *command: str, module: str = "studio.runs.nanny") -> subprocess.Popen[bytes]:
        (run.path / "CLAIM").touch()
        with open(run.log, "ab") as log:
            words = [sys.executable, "-m", module, str(run.path), *(command or [*FAKE, str(run.path)])]
            nannies.append(subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log))
        return nannies[-1]

    yield nurse
    for nanny in nannies:
        nanny.terminate()
        nanny.wait(10)
