"""What to change of a training that ran out of memory, so that it will not a second time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio import models
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.errors import DatasetError, ModelError
from studio.machine import Machine
from studio.planning import advice, rows, schedule, shape, team
from studio.planning.advice import Changes
from studio.planning.batch import Lengths
from studio.planning.passes import COMFORT, Course, course
from studio.planning.shape import Shape
from studio.runs.run import Run

LESS = 0.4  # of what a batch takes has to go at least: the plan had thought that it fits


@dataclass(frozen=True)
class Relief:
    """The options to set, and what the plan says of the training before and after, in GB."""

    changes: Changes
    before_gb: float
    after_gb: float

    def __str__(self) -> str:
        figures = f"about {self.after_gb:.2f} GB instead of {self.before_gb:.2f}"
        return f"Set {advice.sentence(self.changes)}: that needs {figures}."


def relief(config: TrainConfig, registry: Registry, machine: Machine) -> Relief | None:
    """None where nothing is known of the model, or no setting is enough."""
    folder = models.folder_of(config.model_name_or_path)
    try:
        model = shape.read(Path(folder)) if folder else None
    except ModelError:
        return None
    return _lighter(config, model, _lengths(config, registry), machine) if model else None


def another_try(run: Run, registry: Registry, machine: Machine) -> Changes:
    """Options that another try of a failed training should have: those of its error card, or those that keep the kernel
    from ending it again. Empty where there is nothing to change."""
    if run.kind != "train":
        return {}
    if not run.ran_out_of_memory:
        return dict(run.error.get("retry") or {})
    config = run.config
    found = relief(config, registry, machine) if isinstance(config, TrainConfig) else None
    return found.changes if found else {}


def _lighter(config: TrainConfig, model: Shape, lengths: Lengths, machine: Machine) -> Relief | None:
    def taken(tried: TrainConfig) -> Course:
        return course(tried, model, lengths.cut(tried.cutoff_len), machine)

    def fits(tried: TrainConfig) -> bool:
        return taken(tried).memory.total_gb <= room_gb

    now = taken(config)
    less_gb = now.memory.total_gb - LESS * (now.memory.activations + now.memory.logits)
    room_gb = min(COMFORT * team.free_gb(config, machine), less_gb)
    changes = advice.lighter(config, fits, len(machine.gpus), now.passes.tokens)
    if not changes:
        return None
    after = taken(config.model_copy(update=changes))
    return Relief(changes, now.memory.total_gb, after.memory.total_gb)


def _lengths(config: TrainConfig, registry: Registry) -> Lengths:
    """As long as the cutoff allows, where the rows cannot be looked at."""
    try:
        return schedule.lengths([rows.known(config, registry, name) for name in config.dataset])
    except DatasetError:
        return Lengths(config.cutoff_len, config.cutoff_len)
