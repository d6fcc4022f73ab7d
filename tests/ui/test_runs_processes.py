"""What the Runs tab says of the processes of a run."""

from __future__ import annotations

from typing import Any

import pytest

from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs.run import Run
from studio.ui.context import Context
from studio.ui.tabs import runs_processes


@pytest.fixture
def run(ctx: Context) -> Run:
    config = TrainConfig(dataset=("identity",), parallel_strategy="zero2", nproc_per_node=2)
    run = ctx.store.create(config)
    for rank in (0, 1):
        folder = run.path / "ranks" / f"{rank}"
        folder.mkdir(parents=True)
        write_json(folder / "process.json", {"host": "here", "device": "cpu", "node": 0})
    (run.path / "ranks" / "1" / "log.txt").write_text("[loading]\n")
    return run


def test_processes_and_the_log_of_one(ctx: Context, run: Run) -> None:
    told = runs_processes.on_look(ctx, run.id, None, "")
    assert (told["strategy"], told["world"], told["nodes"], told["log"]) == ("zero2", 2, 1, "")
    assert [(each["rank"], each["host"]) for each in told["processes"]] == [(0, "here"), (1, "here")]
    assert runs_processes.on_look(ctx, run.id, 1, told["stamp"])["log"] == "[loading]\n"


def test_nothing_new_costs_a_clock(ctx: Context, run: Run) -> None:
    told = runs_processes.on_look(ctx, run.id, 1, "")
    assert set(runs_processes.on_look(ctx, run.id, 1, told["stamp"])) == {"now"}


@pytest.mark.parametrize("values", [{}, {"parallel_strategy": "device_map"}], ids=["single", "device_map"])
def test_a_run_of_one_process_is_not_asked_about_again(ctx: Context, values: dict[str, Any]) -> None:
    run = ctx.store.create(TrainConfig(dataset=("identity",), **values))
    assert runs_processes.on_look(ctx, run.id, None, "") == {"none": True}
    assert runs_processes.on_look(ctx, "gone", None, "") == {"none": True}
