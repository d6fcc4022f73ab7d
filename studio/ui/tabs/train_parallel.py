"""What the section "Several devices" says below its pickers: the strategy in a sentence, the GPUs, the processes, and
DeepSpeed's settings in an editor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
import msgspec

from studio import machine
from studio.config.option import split_names
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.machine import GB
from studio.parallel import zero
from studio.parallel.strategies import STRATEGIES
from studio.ui import panel


def draw() -> gr.HTML:
    """The panel, not rendered yet. Its value is what `told` gives; `pick` fires with the GPUs that a person ticked,
    `edit` with settings of DeepSpeed, `accelerate` with a file of its own and the file's `name`, all as `text`."""
    return panel.draw("train_parallel", [], elem_id="train-parallel", render=False)


def told(given: Mapping[str, Any], config: TrainConfig | None = None, processes: int = 1) -> str:
    """The panel for the values of the form; `config` is what they make where they are sound, in that many processes."""
    strategy = STRATEGIES[str(given.get("parallel_strategy", "single"))]
    is_local = given.get("launcher") != "slurm"
    answer = {
        "distributed": strategy.is_distributed,
        "sentence": strategy.sentence,
        "local": is_local,
        "gpus": [_gpu(gpu) for gpu in machine.gpus()] if is_local else [],
        "devices": split_names(str(given.get("devices", ""))),
        "rows": _rows(config, processes) if config else None,
        "zero": _zero(given) if strategy.is_deepspeed else None,
    }
    return msgspec.json.encode(answer).decode()


def _zero(given: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSpeed's settings: a person's `own` with what is wrong with them, or what is generated from the form."""
    options, own = TrainConfig.model_construct(**given), str(given.get("deepspeed", ""))
    if not own:
        return {"text": json.dumps(zero.settings(options), indent=2), "own": False, "problems": []}
    return {"text": own, "own": True, "problems": _problems(options, own)}


def _problems(options: TrainConfig, own: str) -> list[str]:
    try:
        return [*zero.problems(zero.parse(own)), *zero.contradictions(options)]
    except ConfigError as error:
        return [problem.what for problem in error.problems]


def _rows(config: TrainConfig, processes: int) -> tuple[int, int, int, int]:
    """What makes the rows of a step: of a batch, batches, processes; and on how many nodes these are."""
    return config.per_device_train_batch_size, config.gradient_accumulation_steps, processes, config.nnodes


def _gpu(gpu: machine.Gpu) -> dict[str, Any]:
    return {"index": str(gpu.index), "name": gpu.name, "free_gb": gpu.free / GB, "total_gb": gpu.total / GB}
