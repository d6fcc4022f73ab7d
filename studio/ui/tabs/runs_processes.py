"""The processes of the chosen run: where each is and what it does, its log, and what starts those of further nodes."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import gradio as gr

from studio.config.train import TrainConfig
from studio.errors import RunNotFound
from studio.files import read_record, tail
from studio.parallel.nodes import Command
from studio.parallel.strategies import STRATEGIES, Strategy
from studio.runs import cluster, nodes, ranks, resumption
from studio.runs.run import UNKNOWN_KIND, Run
from studio.ui import panel
from studio.ui.context import Context
from studio.ui.panel import Answer

LOG_BYTES = 16_000


def draw(ctx: Context) -> gr.HTML:
    """The panel of the run whose id is the value; out of sight for a run of one process on this machine."""

    def processes(asked: list[Any]) -> Answer:
        return on_look(ctx, *asked)

    return panel.draw("runs_processes", [processes], shared=["copying"], elem_id="run-processes")


def on_look(ctx: Context, run_id: str, rank: int | None, known: str) -> dict[str, Any]:
    """What there is beside what the page has, `known` being its stamp: `now` in unix seconds alone where nothing is
    new, and `none` where there never will be. `rank` is of the process whose log is looked at."""
    run = _find(ctx, run_id)
    config = run.config if run and run.kind != UNKNOWN_KIND else None
    if run is None or not isinstance(config, TrainConfig):
        return {"none": True}
    strategy = STRATEGIES[config.parallel_strategy]
    if not strategy.is_distributed:
        return {"none": True}
    told = _told(run, config, strategy) | {"log": tail(ranks.log(run, rank), LOG_BYTES) if rank is not None else ""}
    return {"now": time.time(), **(panel.unless_known(known, told) or {})}


def _told(run: Run, config: TrainConfig, strategy: Strategy) -> dict[str, Any]:
    begun = ranks.processes(run)
    return {
        "live": run.is_active,
        "strategy": strategy.name,
        "sentence": strategy.sentence,
        "world": max((each.world for each in begun), default=0) or _planned(config),
        "nodes": config.nnodes,
        "processes": [asdict(each) for each in begun],
        "commands": [asdict(each) for each in _awaited(run)],
        "slurm": read_record(run.path / cluster.FILE),
    }


def _planned(config: TrainConfig) -> int:
    """How many processes there will be; 0 where the nodes that SLURM finds decide."""
    if config.launcher == "slurm" and config.nproc_per_node is None:
        return 0
    return resumption.processes(config)


def _awaited(run: Run) -> list[Command]:
    """What is to be typed on the machines that the run waits for."""
    if run.status.get("phase") != nodes.PHASE or not run.is_active:
        return []
    return [each for each in nodes.commands(run) if not nodes.has_joined(run.path, each.node)]


def _find(ctx: Context, run_id: str) -> Run | None:
    try:
        return ctx.store.get(run_id)
    except RunNotFound:
        return None
