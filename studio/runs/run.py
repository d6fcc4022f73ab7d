"""A run: a directory, the names in it, and the state that follows from them. Nothing here writes but requests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from studio.config.load import RunConfig, load_run_config
from studio.files import read_json, tail
from studio.runs import process, queue
from studio.runs.process import Identity


class State(StrEnum):
    """Derived from the files of a run and the life of its processes; stored nowhere."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


ACTIVE = frozenset({State.QUEUED, State.RUNNING, State.STOPPING})


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config(self) -> RunConfig:
        return load_run_config(self.path / "config.yaml")

    @property
    def kind(self) -> str:
        return self.config.kind

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def status(self) -> dict[str, Any]:
        return self._json("status.json")

    @property
    def exit(self) -> dict[str, Any]:
        return self._json("exit.json")

    @property
    def result(self) -> dict[str, Any]:
        return self._json("result.json")

    @property
    def error(self) -> dict[str, Any]:
        return self._json("error.json")

    @property
    def server(self) -> dict[str, Any]:
        return self._json("server.json")

    @property
    def output(self) -> Path | None:
        """The finished adapter or model, once there is one."""
        name = self.result.get("output")
        return self.path / name if name else None

    @property
    def created(self) -> datetime:
        return datetime.strptime(self.id[:15], "%Y%m%d-%H%M%S").astimezone()

    @property
    def state(self) -> State:
        return _ended(self.exit) or self._living() or _ended(self.exit) or self._unattended()

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def reason(self) -> str:
        """Why the run ended as it did, in a sentence; empty while there is nothing to say."""
        state = self.state
        if state is State.FAILED:
            return self._failure()
        if state is State.LOST:
            return "The machine or its processes went down without a word. Resume it from its last checkpoint."
        return ""

    def process_alive(self, name: str) -> bool:
        """Whether the `nanny` or `worker` of this run lives."""
        identity = Identity.from_json(self._json(f"{name}.json"))
        return process.is_alive(identity, self.status.get("at"))

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first. They appear by rename; the state file is a second belt."""
        found = (self.path / "checkpoints").glob("checkpoint-*")
        complete = [path for path in found if (path / "trainer_state.json").exists()]
        return sorted(complete, key=lambda path: int(path.name.rpartition("-")[2]))

    def request(self, name: str) -> None:
        """Touch a request file: STOP, STOP_NOW or SAVE."""
        (self.path / name).touch()

    def stop(self) -> None:
        """Ask the run to save and stop."""
        self.request("STOP")

    def stop_now(self) -> None:
        """End the run without saving. Without a nanny to do it, the worker is signalled here."""
        self.request("STOP_NOW")
        if not self.process_alive("nanny"):
            process.kill(process.of_run(self.path), signal.SIGKILL)

    def _living(self) -> State | None:
        if not (self.path / "CLAIM").exists():
            return State.QUEUED
        alive = self.process_alive("nanny") or self.process_alive("worker")
        if not alive and not ((self.path / "nanny.json").exists() or queue.is_starting(self.path)):
            return None
        if not alive and (self.path / "nanny.json").exists():
            return None
        if (self.path / "STOP").exists() or (self.path / "STOP_NOW").exists():
            return State.STOPPING
        return State.QUEUED if (self.path / "WAIT").exists() else State.RUNNING

    def _unattended(self) -> State:
        """No exit.json and nobody alive: the nanny was killed. A result is written last, so it proves the end."""
        if result := self.result:
            return State.STOPPED if result.get("stopped") else State.COMPLETED
        return State.FAILED if self.error else State.LOST

    def _failure(self) -> str:
        if error := self.error:
            return " ".join(str(error[key]) for key in ("message", "hint") if error.get(key))
        if number := self.exit.get("signal"):
            return _signal_sentence(int(number))
        last = next(reversed([line for line in tail(self.log, 4000).splitlines() if line.strip()]), "")
        return f"The worker ended with code {self.exit.get('code')}: {last or 'it printed nothing'}"

    def _json(self, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], read_json(self.path / name) or {})


def _ended(exit_record: dict[str, Any]) -> State | None:
    return State(exit_record["reason"]) if exit_record else None


def _signal_sentence(number: int) -> str:
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return (
            "The worker was killed (SIGKILL). If nobody did, the kernel ran out of memory: lower the batch size or "
            "cutoff_len, or choose a smaller model."
        )
    return f"The worker was ended by {name}; the last lines of the log say more."


def newest_first(runs: Iterator[Run]) -> list[Run]:
    """Ids begin with the time of creation."""
    return sorted(runs, key=lambda run: run.id, reverse=True)
