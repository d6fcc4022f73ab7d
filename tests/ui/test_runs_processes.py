"""What the Runs tab says of the processes of a run."""

from __future__ import annotations

from typing import Any

import pytest

from studio.config.train import TrainConfig
from studio.files import write_json
from studio.parallel.nodes import Host
from studio.runs import nodes
from studio.runs.nodes import Meeting
from studio.runs.process import Identity
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


def test_what_to_type_on_further_nodes_is_told_while_they_are_waited_for(ctx: Context) -> None:
    run = ctx.store.create(TrainConfig(dataset=("identity",), parallel_strategy="ddp", nnodes=3))
    Meeting("here", 29500, (Host(), Host("second host"), Host())).write(run.path)
    write_json(run.path / "nanny.json", Identity.of().to_json())
    write_json(run.path / "status.json", {"phase": nodes.PHASE, "at": 0})
    told = runs_processes.on_look(ctx, run.id, None, "")["commands"]
    assert [(each["node"], each["host"]) for each in told] == [(1, "second host"), (2, "")]
    assert told[1]["text"].endswith(f"{run.path} --node-rank 2")
    write_json(run.path / "status.json", {"phase": "training", "at": 0})
    assert runs_processes.on_look(ctx, run.id, None, "")["commands"] == []


def test_the_job_of_slurm_is_told(ctx: Context) -> None:
    run = ctx.store.create(TrainConfig(dataset=("identity",), parallel_strategy="ddp", launcher="slurm"))
    told = runs_processes.on_look(ctx, run.id, None, "")
    assert (told["slurm"], told["world"]) == ({}, 0)  # its nodes decide, when they are known
    (run.path / "ranks" / "0").mkdir(parents=True)
    write_json(run.path / "ranks" / "0" / "process.json", {"host": "far", "world": 16})
    assert runs_processes.on_look(ctx, run.id, None, "")["world"] == 16
    job = {"job_id": "7", "state": "PENDING", "position": 2, "pending": 5}
    write_json(run.path / "slurm.json", job)
    assert runs_processes.on_look(ctx, run.id, None, "")["slurm"] == job


@pytest.mark.parametrize("values", [{}, {"parallel_strategy": "device_map"}], ids=["single", "device_map"])
def test_a_run_of_one_process_is_not_asked_about_again(ctx: Context, values: dict[str, Any]) -> None:
    run = ctx.store.create(TrainConfig(dataset=("identity",), **values))
    assert runs_processes.on_look(ctx, run.id, None, "") == {"none": True}
    assert runs_processes.on_look(ctx, "gone", None, "") == {"none": True}
