"""The checkpoints of the chosen run: whether each is whole, and how the training goes on from one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import gradio as gr

from studio import machine
from studio.config.consolidate import ConsolidateConfig
from studio.config.train import TrainConfig
from studio.config.train.saving import Scope
from studio.errors import NotResumable, RunNotFound
from studio.exports import consolidate
from studio.parallel.strategies import STRATEGIES
from studio.runs import checkpoints, launchers, resumption
from studio.runs.checkpoints import Checkpoint
from studio.runs.run import ACTIVE, UNKNOWN_KIND, Run
from studio.runs.summary import of as summary_of
from studio.ui import panel
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.panel import Answer

DOUBLE_CLICK_S = 3.0
MADE_MAX = 5
# what is taken of a checkpoint: its name, and a sentence
SCOPES: dict[Scope, tuple[tuple[str, str], tuple[str, str]]] = {
    "all": (
        ("Everything", "The training goes on exactly where it stood."),
        ("全部", "训练从中断处精确继续。"),
    ),
    "no_scheduler": (
        ("Not the schedule", "The learning rate begins its schedule anew, over the steps that are left."),
        ("不含学习率调度", "学习率在剩余步数上重新开始调度。"),
    ),
    "no_optimizer": (
        ("Not the optimizer", "The optimizer's moments begin at zero; the schedule goes on."),
        ("不含优化器", "优化器动量从零开始，学习率调度继续。"),
    ),
    "weights": (
        ("Weights only", "Optimizer and schedule both begin anew; for another strategy, or after a bad turn."),
        ("仅权重", "优化器与学习率调度都重新开始；适合更换并行策略或训练走偏之后。"),
    ),
}  # fmt: skip
LEFT_OUT = "your own settings of DeepSpeed are left out: they are for the strategy before"
# options that the dialog offers to change
CHANGEABLE = ("parallel_strategy", "nproc_per_node", "devices", "max_steps", "num_train_epochs")


def draw(ctx: Context) -> gr.HTML:
    """The panel of the run whose id is the value.

    `resume` fires with how a person wants to go on: of which `run`, the `step`, the `scope` and the `changes`. It opens
    that question when it hears the page's event seedbed:resume. `consolidate` fires with the `step` of a `run` to make
    a model of, `select` with the `run` that made one and where `to`.
    """

    def listed(asked: list[str]) -> Answer:
        return on_look(ctx, *asked)

    def verify(asked: list[Any]) -> Answer:
        return on_verify(ctx, *asked)

    async def read(asked: list[Any]) -> Answer:
        return await on_read(ctx, *asked)

    def judge(asked: list[Any]) -> Answer:
        return on_judge(ctx, *asked)

    return panel.draw("runs_checkpoints", [listed, verify, read, judge], elem_id="run-checkpoints")


def on_look(ctx: Context, run_id: str, known: str) -> Answer:
    """The checkpoints of a training and what can be changed when it goes on; None where the page has it (`known` is
    its stamp), and `none` for a run that has none and never will."""
    run = _find(ctx, run_id)
    config = run.config if run and run.kind != UNKNOWN_KIND else None
    if run is None or not isinstance(config, TrainConfig):
        return {"none": True}
    told = {
        "live": run.is_active,
        "every": config.save_steps if config.save_strategy == "steps" else 0,
        "checkpoints": [_told(each) for each in reversed(checkpoints.listed(run))],
        "makes": "adapter" if config.finetuning_type == "lora" else "model",
        "made": [_made(each) for each in ctx.store.list("consolidate") if _is_of(each, run)][:MADE_MAX],
        "scopes": SCOPES,
        "strategies": list(STRATEGIES),
        "spread": [each.name for each in STRATEGIES.values() if each.is_distributed],
        "gpus": len(list(machine.gpus())),
        "values": {key: getattr(config, key) for key in CHANGEABLE},
    }
    return panel.unless_known(known, told)


def on_verify(ctx: Context, run_id: str, step: int) -> dict[str, Any]:
    """What sizes tell of a checkpoint at once, and the (name, bytes) of the `files` whose contents can be read."""
    found = _checkpoint(ctx, run_id, step)
    files = found.manifest.files if found.manifest and found.is_complete else {}
    return {"problems": checkpoints.verify(found.path), "files": [(name, file.bytes) for name, file in files.items()]}


async def on_read(ctx: Context, run_id: str, step: int, name: str) -> dict[str, bool]:
    """Whether one file of a checkpoint is as it was written; all of it is read."""
    found = _checkpoint(ctx, run_id, step)
    written = found.manifest and found.manifest.files.get(name)
    if not written:
        return {"whole": False}
    hashed = await asyncio.to_thread(checkpoints.hashes, found.path, [name])
    return {"whole": hashed[name] == written.sha256}


def on_judge(ctx: Context, run_id: str, step: int, scope: Scope, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What would follow from going on so.

    Raises:
        NotResumable, ConfigError: it cannot be.
    """
    run = ctx.store.get(run_id)
    asked = _asked(run, changes)
    found = resumption.judge(run, step, scope, **asked)
    return {"warnings": (*found.warnings, *([LEFT_OUT] if "deepspeed" in asked else []))}


@shown
def on_resume(ctx: Context, run_id: str, step: int, scope: Scope, changes: Mapping[str, Any]) -> str:
    """Go on so, in a new run that is then shown."""
    old = ctx.store.get(run_id)
    run = ctx.store.resume(old, step, scope, **_asked(old, changes))
    return launchers.start_new(ctx.store, run).id


@shown
def on_consolidate(ctx: Context, run_id: str, step: int) -> None:
    """Make an adapter or a model of a checkpoint, in a run that the panel follows."""
    config = ConsolidateConfig(run=run_id, step=step, run_name=f"{ctx.store.get(run_id).name} step {step}")
    consolidate.plan(ctx.store, config)
    launchers.begin(ctx.store, config, twin_within_s=DOUBLE_CLICK_S)


def _is_of(made: Run, run: Run) -> bool:
    config = made.config
    return isinstance(config, ConsolidateConfig) and config.run == run.id


def _made(run: Run) -> dict[str, Any]:
    """What is or was made of a checkpoint: `output` is the folder, once it is there."""
    summary = summary_of(run)
    there = run.output is not None and run.output.is_dir()
    told = ("id", "name", "state", "progress", "message")
    return {
        **{key: getattr(summary, key) for key in told},
        "active": summary.state in ACTIVE,
        "output": str(run.output) if there else "",
    }


def _told(found: Checkpoint) -> dict[str, Any]:
    """A line of the list; what an older version wrote says nothing of processes."""
    manifest = found.manifest
    return {
        "step": found.step,
        "at": found.at,
        "bytes": found.bytes,
        "problem": found.problem,
        "is_best": found.is_best,
        "world": manifest.world_size if manifest else None,
        "strategy": manifest.strategy if manifest else "",
        "weights_only": bool(manifest and manifest.weights_only),
    }


def _asked(run: Run, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a page may change; an empty field leaves the choice to the training. A person's own settings of DeepSpeed
    are for one strategy."""
    known = {key: None if value == "" else value for key, value in changes.items() if key in CHANGEABLE}
    config = run.config
    owns = isinstance(config, TrainConfig) and config.deepspeed is not None
    return {**known, "deepspeed": None} if owns and "parallel_strategy" in known else known


def _checkpoint(ctx: Context, run_id: str, step: int) -> Checkpoint:
    known = checkpoints.listed(ctx.store.get(run_id))
    found = next((each for each in known if each.step == step), None)
    if found is None:
        raise NotResumable(f"The checkpoint of step {step} is gone: newer ones have taken its place")
    return found


def _find(ctx: Context, run_id: str) -> Run | None:
    try:
        return ctx.store.get(run_id)
    except RunNotFound:
        return None
