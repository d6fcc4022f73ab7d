"""What a training will take, told before it starts: memory, steps, time and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio import models
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.errors import DatasetError, ModelError
from studio.machine import GB, Machine
from studio.planning import advice, batch, disk, parameters, past, rows, schedule, shape
from studio.planning.advice import Changes
from studio.planning.batch import Batch, Lengths
from studio.planning.memory import Memory, estimate
from studio.planning.past import Pace
from studio.planning.rows import Known
from studio.planning.schedule import Schedule
from studio.planning.shape import Shape
from studio.runs.store import Store

COMFORT = 0.92  # of what is free: above it, other programs may take the rest


@dataclass(frozen=True)
class Verdict:
    """Whether a training fits into what is free, in GB of 1e9 bytes, and what to set to what if not."""

    memory: Memory
    free_gb: float
    device: str
    checkpointing: bool
    retry: Changes | None

    @property
    def fits(self) -> bool:
        return self.memory.total_gb <= self.free_gb

    @property
    def words(self) -> str:
        """One sentence, or two."""
        figures = f"{self.memory.total_gb:.1f} of {self.free_gb:.1f} GB"
        if self.fits:
            return f"{'tight' if self.memory.total_gb > COMFORT * self.free_gb else 'fits'}: {figures}"
        needs = f"will not fit: needs {self.memory.total_gb:.1f} GB, {self.free_gb:.1f} GB are free"
        if self.retry is None:
            return f"{needs}. No setting makes it fit here: choose a smaller model"
        return f"{needs}. Set {advice.sentence(self.retry)}" if self.retry else needs


@dataclass(frozen=True)
class Plan:
    """One training before it starts. What cannot be known yet is None, and `unknown` says why.

    `trainable` of `parameters`; `effective_batch` are rows a step; `seconds` follow from the pace of the run
    `paced_by`.
    """

    effective_batch: int
    parameters: int | None
    trainable: int | None
    verdict: Verdict | None
    schedule: Schedule
    pace: Pace | None
    disk_gb: float | None
    disk_free_gb: float
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """How long the training will take, without loading and saving."""
        if self.pace is None or self.schedule.tokens is None:
            return None
        return self.schedule.tokens / self.pace.tokens_per_s


def plan(config: TrainConfig, registry: Registry, machine: Machine, store: Store) -> Plan:
    """The plan of a training here and now. Reads headers and caches only."""
    unknown: list[str] = []
    model, parts = _shape(config, unknown), _known(config, registry, unknown)
    times = (
        schedule.of(config, parts)
        if parts
        else Schedule(None, config.max_steps if config.max_steps > 0 else None, None)
    )
    trained = parameters.of(config, model) if model else None
    lengths = schedule.lengths(parts) if parts else Lengths(config.cutoff_len, config.cutoff_len)
    encoded = round((times.rows or 0) * lengths.mean)
    return Plan(
        effective_batch=config.per_device_train_batch_size * config.gradient_accumulation_steps,
        parameters=trained.total if trained else None,
        trainable=trained.trainable if trained else None,
        verdict=verdict(config, model, lengths, machine) if model else None,
        schedule=times,
        pace=past.pace(config, store, machine.device),
        disk_gb=disk.needed(config, trained, times.steps, encoded) / GB if trained else None,
        disk_free_gb=machine.disk_free / GB,
        unknown=tuple(unknown),
    )


def verdict(config: TrainConfig, model: Shape, lengths: Lengths, machine: Machine) -> Verdict:
    """Whether rows of such lengths can be trained on this machine, with checkpointing where it is left open."""
    free_gb = machine.free / GB

    def need(tried: TrainConfig) -> Memory:
        return needed(tried, model, lengths.cut(tried.cutoff_len), machine)

    memory = need(config)
    retry = None
    if memory.total_gb > free_gb:
        retry = advice.lighter(config, lambda tried: need(tried).total_gb <= COMFORT * free_gb)
    return Verdict(memory, free_gb, machine.device, checkpoints(config, model, lengths, machine), retry)


def needed(config: TrainConfig, model: Shape, lengths: Lengths, machine: Machine) -> Memory:
    """The memory of `config`, with checkpointing where it is left open and needed."""
    fullest = _fullest(config, model, lengths)
    checkpointing = checkpoints(config, model, lengths, machine)
    return estimate(config, model, fullest, machine.gpu is not None, checkpointing)


def checkpoints(config: TrainConfig, model: Shape, lengths: Lengths, machine: Machine) -> bool:
    """Whether activations are computed twice: as configured, or where they would not fit otherwise."""
    if config.gradient_checkpointing is not None:
        return config.gradient_checkpointing
    fullest = _fullest(config, model, lengths)
    without = estimate(config, model, fullest, machine.gpu is not None, checkpointing=False)
    return without.total_gb > COMFORT * machine.free / GB


def _fullest(config: TrainConfig, model: Shape, lengths: Lengths) -> Batch:
    return batch.of(config, lengths.cut(model.context or config.cutoff_len), model.context)


def _shape(config: TrainConfig, unknown: list[str]) -> Shape | None:
    folder = models.folder_of(config.model_name_or_path)
    if folder is None:
        unknown.append(f"{config.model_name_or_path} is not on this machine yet: its memory is known once it is")
        return None
    try:
        return shape.read(Path(folder))
    except ModelError as error:
        unknown.append(str(error))
        return None


def _known(config: TrainConfig, registry: Registry, unknown: list[str]) -> Sequence[Known]:
    parts = []
    for name in config.dataset:
        try:
            parts.append(rows.known(config, registry, name))
        except (DatasetError, OSError) as error:  # a file may be gone at any moment
            unknown.append(f"{name}: {error}")
            return ()
        if not parts[-1].measured:
            unknown.append(f"{name}: token lengths are guessed from its text; measure them in the Datasets tab")
    return parts
