"""What the processes of a training tell of themselves, read from files as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs import events, ranks
from studio.runs.run import Run
from studio.runs.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Store(tmp_path).create(TrainConfig(dataset=("identity",), parallel_strategy="ddp"))


def test_a_run_of_one_process_has_none(run: Run) -> None:
    assert ranks.processes(run) == ()


def test_the_first_one_speaks_for_the_run_and_the_others_for_themselves(run: Run) -> None:
    folders = {rank: run.path / "ranks" / f"{rank}" for rank in (0, 2, 10)}
    for rank, folder in folders.items():
        folder.mkdir(parents=True)
        write_json(folder / "process.json", {"host": f"h{rank}", "device": "cpu", "node": 1})
    write_json(run.path / "status.json", {"phase": "training", "step": 3, "at": 5.0})
    write_json(folders[2] / "status.json", {"phase": "loading", "step": 0, "at": 4.0})
    write_json(folders[10] / "error.json", {"message": "Memory ran out."})
    found = ranks.processes(run)
    assert [(each.rank, each.host, each.phase, each.at) for each in found] == [
        (0, "h0", "training", 5.0), (2, "h2", "loading", 4.0), (10, "h10", "", None),
    ]  # fmt: skip
    assert found[2].problem == "Memory ran out."


def test_memory_is_that_of_the_last_step_of_a_long_file(run: Run) -> None:
    folder = run.path / "ranks" / "0"
    folder.mkdir(parents=True)
    for step in range(1, 60):
        events.append(run.metrics, events.Step(step, 1.0, 1e-4, 1.0, 9, 5.0, 0.0, step / 10, 0.0))
    events.append(run.metrics, events.Note("info", "x" * 300, 0.0))
    with run.metrics.open("a") as file:
        file.write('{"type": "step", "memory')
    [first] = ranks.processes(run)
    assert first.memory_gb == pytest.approx(5.9)


def test_each_has_a_log(run: Run) -> None:
    assert ranks.log(run, 0) == run.log
    assert ranks.log(run, 1) == run.path / "ranks" / "1" / "log.txt"
