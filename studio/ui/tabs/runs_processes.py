"""The processes of the chosen run: where each is and what it does, its log, and what starts those of further nodes."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import gradio as gr

from studio.config.train import TrainConfig
from studio.errors import RunNotFound
from studio.files import tail
from studio.parallel.strategies import STRATEGIES
from studio.runs import ranks, resumption
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
    if run is None or not isinstance(config, TrainConfig) or not _is_spread(config):
        return {"none": True}
    told = _told(run, config) | {"log": tail(ranks.log(run, rank), LOG_BYTES) if rank is not None else ""}
    return {"now": time.time(), **(panel.unless_known(known, told) or {})}


def _told(run: Run, config: TrainConfig) -> dict[str, Any]:
    strategy = STRATEGIES[config.parallel_strategy]
    return {
        "live": run.is_active,
        "strategy": strategy.name,
        "sentence": strategy.sentence,
        "world": resumption.processes(config),
        "nodes": config.nnodes,
        "processes": [asdict(each) for each in ranks.processes(run)],
        "commands": [],
        "slurm": None,
    }


def _is_spread(config: TrainConfig) -> bool:
    return STRATEGIES[config.parallel_strategy].is_distributed or config.launcher == "slurm"


def _find(ctx: Context, run_id: str) -> Run | None:
    try:
        return ctx.store.get(run_id)
    except RunNotFound:
        return None
