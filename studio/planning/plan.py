"""What a training will take, told before it starts: memory, steps, time and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from studio import models
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.errors import DatasetError, ModelError
from studio.machine import GB, Machine
from studio.planning import advice, batch, disk, parameters, past, rows, schedule, shape, team
from studio.planning.advice import Changes
from studio.planning.batch import Lengths
from studio.planning.memory import Memory, host_gb
from studio.planning.passes import COMFORT, Course, course
from studio.planning.past import Pace
from studio.planning.rows import Known
from studio.planning.schedule import Schedule
from studio.planning.shape import Shape
from studio.runs.store import Store

CPU = "CPU"  # what a machine without a GPU calls its device


@dataclass(frozen=True)
class Verdict:
    """Whether a training fits into what is free, in GB of 1e9 bytes, and what to set to what if not.

    `memory`, that of its `course`, and `free_gb` are of one of `devices`, the one with the least room; on a CPU, of one
    of as many processes. `host_gb` is what the memory of this machine holds for its GPUs, 0 where nothing is offloaded.
    """

    course: Course
    free_gb: float
    device: str
    retry: Changes | None
    devices: int = 1
    host_gb: float = 0.0
    host_free_gb: float = 0.0

    @property
    def memory(self) -> Memory:
        return self.course.memory

    @property
    def fits(self) -> bool:
        return self.memory.total_gb <= self.free_gb and self.host_gb <= self.host_free_gb

    @property
    def words(self) -> str:
        """One sentence, or two."""
        if self.fits:
            return f"{'tight' if self._is_tight else 'fits'}: {self._figures}"
        needs = f"will not fit: {self._lack}"
        if self.retry is None:
            return f"{needs}. No setting makes it fit here: choose a smaller model"
        return f"{needs}. Set {advice.sentence(self.retry)}" if self.retry else needs

    @property
    def _is_tight(self) -> bool:
        return self.memory.total_gb > COMFORT * self.free_gb or self.host_gb > COMFORT * self.host_free_gb

    @property
    def _figures(self) -> str:
        host = f", and {self.host_gb:.1f} of {self.host_free_gb:.1f} GB of the machine's memory" if self.host_gb else ""
        return f"{self.memory.total_gb:.1f} of {self.free_gb:.1f} GB{self._each}{host}"

    @property
    def _lack(self) -> str:
        if self.memory.total_gb > self.free_gb:
            return f"needs {self.memory.total_gb:.1f} GB{self._each}, {self.free_gb:.1f} GB are free"
        return f"needs {self.host_gb:.1f} GB of the machine's memory, {self.host_free_gb:.1f} GB are free"

    @property
    def _each(self) -> str:
        kind = "processes" if self.device == CPU else "devices"
        return f" in each of {self.devices} {kind}" if self.devices > 1 else ""


@dataclass(frozen=True)
class Plan:
    """One training before it starts. What cannot be known yet is None, and `unknown` says why.

    `trainable` of `parameters`; `effective_batch` are rows a step, of all `processes` together; `seconds` follow from
    the pace of the run `paced_by`.
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
    processes: int = 1

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
    processes = team.of(config, machine).world
    times = (
        schedule.of(config, parts, processes)
        if parts
        else Schedule(None, config.max_steps if config.max_steps > 0 else None, None)
    )
    trained = parameters.of(config, model) if model else None
    lengths = schedule.lengths(parts) if parts else Lengths(config.cutoff_len, config.cutoff_len)
    encoded = round((times.rows or 0) * lengths.mean)
    return Plan(
        effective_batch=config.per_device_train_batch_size * config.gradient_accumulation_steps * processes,
        parameters=trained.total if trained else None,
        trainable=trained.trainable if trained else None,
        verdict=verdict(config, model, lengths, machine) if model else None,
        schedule=times,
        pace=past.pace(config, store, machine.device),
        disk_gb=disk.needed(config, trained, times.steps, encoded) / GB if trained else None,
        disk_free_gb=machine.disk_free / GB,
        unknown=tuple(unknown),
        processes=processes,
    )


def verdict(config: TrainConfig, model: Shape, lengths: Lengths, machine: Machine) -> Verdict:
    """Whether rows of such lengths can be trained on this machine, with checkpointing where it is left open."""

    def judged(tried: TrainConfig) -> Verdict:
        return _judged(tried, model, lengths.cut(tried.cutoff_len), machine)

    found = judged(config)
    if found.fits:
        return found
    fits, tokens = lambda tried: _has_room(judged(tried)), config.micro_batch_tokens
    return replace(found, retry=advice.lighter(config, fits, len(machine.gpus), tokens))


def _has_room(found: Verdict) -> bool:
    return found.memory.total_gb <= COMFORT * found.free_gb and found.host_gb <= COMFORT * found.host_free_gb


def _judged(config: TrainConfig, model: Shape, lengths: Lengths, machine: Machine) -> Verdict:
    """Without advice."""
    among, gpus = team.of(config, machine), team.chosen(config, machine)
    rows = batch.of(config, lengths, model.context)
    return Verdict(
        course=course(config, model, lengths, machine),
        free_gb=team.free_gb(config, machine),
        device=min(gpus, key=lambda gpu: gpu.free).name if gpus else CPU,
        retry=None,
        devices=max(among.local, among.devices),
        host_gb=host_gb(config, model, rows, bool(gpus), among),
        host_free_gb=machine.memory_free / GB,
    )


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
