"""The processes of a training as each tells of itself, in a folder of its own below the run's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from studio.files import read_record, tail
from studio.runs.run import Run

FOLDER = "ranks"
FIGURES_BYTES = 4_000  # the last step or two of metrics.jsonl


@dataclass(frozen=True)
class Process:
    """Number `rank` of `world`, on machine number `node`. Empty, 0 or None is what it has not said yet.

    `step` and `phase` as in a run's status, told at `at` in unix seconds; `memory_gb` is the peak on its device;
    `problem` is its own card, which may tell only that another one has failed.
    """

    rank: int
    world: int
    node: int
    host: str
    device: str
    phase: str
    step: int
    memory_gb: float | None
    at: float | None
    problem: str


def processes(run: Run) -> tuple[Process, ...]:
    """Those that have begun, by rank; none of a training of one process."""
    return tuple(_process(run, int(path.name)) for path in _folders(run))


def log(run: Run, rank: int) -> Path:
    """Where a process writes what it prints: the first one speaks for the run."""
    return run.path / FOLDER / str(rank) / "log.txt" if rank else run.log


def _folders(run: Run) -> list[Path]:
    found = (path for path in (run.path / FOLDER).glob("*") if path.name.isdecimal())
    return sorted(found, key=lambda path: int(path.name))


def _process(run: Run, rank: int) -> Process:
    folder = run.path / FOLDER / str(rank)
    desk = folder if rank else run.path
    itself, status = read_record(folder / "process.json"), read_record(desk / "status.json")
    return Process(
        rank=rank,
        world=int(itself.get("world", 0)),
        node=int(itself.get("node", 0)),
        host=str(itself.get("host", "")),
        device=str(itself.get("device", "")),
        phase=str(status.get("phase", "")),
        step=int(status.get("step", 0)),
        memory_gb=_memory(tail(desk / "metrics.jsonl", FIGURES_BYTES).splitlines()),
        at=status.get("at"),
        problem=str(read_record(folder / "error.json").get("message", "")),
    )


def _memory(lines: Iterable[str]) -> float | None:
    """Of the last step that is told; the first line may be the end of one."""
    for line in reversed([*lines]):
        try:
            event: Any = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(event, dict) and event.get("type") == "step":
            return event.get("memory_gb")
    return None
