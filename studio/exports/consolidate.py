"""Which checkpoint a consolidation starts from, and what it will write: looked up before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio import models
from studio.config.consolidate import ConsolidateConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError, ModelError, Problem, RunNotFound
from studio.exports.plan import Plan, require_room, size
from studio.runs import checkpoints
from studio.runs.run import Run
from studio.runs.store import Store

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2, "F32": 4, "BF16": 2, "F16": 2}  # bytes
REST_BYTES = 20_000_000  # tokenizer, configuration, report


@dataclass(frozen=True)
class Source:
    """A checkpoint, and what it is one of. `base` is the model that the training began with."""

    run: Run
    config: TrainConfig
    checkpoint: Path
    base: Path

    @property
    def output(self) -> str:
        """What comes out: adapter or model."""
        return "adapter" if self.config.finetuning_type == "lora" else "model"


def plan(store: Store, config: ConsolidateConfig) -> Plan:
    """What `config` will do.

    Raises:
        ConfigError: why it cannot be done.
    """
    found = source(store, config)
    expected = _bytes(found, config)
    require_room(store.saves, expected + REST_BYTES, f"the {found.output}")
    title = f"Make the {found.output} of **{found.checkpoint.name}** of {found.run.name}."
    return Plan(title, expected, (f"About {size(expected)} will be written.",))


def source(store: Store, config: ConsolidateConfig) -> Source:
    """The checkpoint that `config` means.

    Raises:
        ConfigError: there is none, it is damaged, or its base is no longer here.
    """
    try:
        run = store.get(config.run)
    except RunNotFound as error:
        raise ConfigError([Problem("run", str(error))]) from error
    training = run.config
    if not isinstance(training, TrainConfig):
        raise ConfigError([Problem("run", f"{run.id} is a {run.kind} run: only trainings have checkpoints")])
    folder = models.folder_of(training.model_name_or_path)
    if folder is None:
        raise ConfigError([Problem("run", f"{training.model_name_or_path}, which it began with, is no longer here")])
    return Source(run, training, _checkpoint(run, config.step), folder)


def _checkpoint(run: Run, step: int | None) -> Path:
    known = checkpoints.listed(run)
    whole = {each.step: each.path for each in known if each.is_complete}
    damaged = {each.step: each.problem for each in known if not each.is_complete}
    if step in damaged:
        raise ConfigError([Problem("step", f"checkpoint-{step} is damaged: {damaged[step]}")])
    if not whole:
        raise ConfigError([Problem("run", f"{run.id} has no complete checkpoint")])
    if step is not None and step not in whole:
        steps = ", ".join(map(str, whole))
        raise ConfigError([Problem("step", f"{run.id} has no checkpoint of step {step}; it has those of {steps}")])
    return whole[step or max(whole)]


def _bytes(found: Source, config: ConsolidateConfig) -> int:
    """What will be written, about: the base's weights in their new type, or the adapter's."""
    if found.output == "adapter":
        return sum(path.stat().st_size for path in found.checkpoint.glob("adapter_model.safetensors"))
    try:
        info = models.check(found.base)
    except ModelError as error:
        raise ConfigError([Problem("run", str(error))]) from error
    width = WIDTHS.get(info.dtype if config.export_dtype == "auto" else config.export_dtype, 4)
    return info.parameters * width
