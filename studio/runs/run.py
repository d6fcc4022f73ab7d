"""A run: a directory, the names in it, and the state that follows from them. Nothing here writes but requests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from studio.config.load import RunConfig, load_run_config
from studio.errors import ConfigError
from studio.files import read_json, read_record, tail
from studio.parallel import slurm
from studio.runs import cluster, process, queue
from studio.runs.waiting import QUEUED, is_asked_to_stop, phase


class State(StrEnum):
    """Derived from the files of a run and the life of its processes; stored nowhere."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"
    DAMAGED = "damaged"


ACTIVE = frozenset({State.QUEUED, State.RUNNING, State.STOPPING})
ENDS = frozenset({State.COMPLETED, State.STOPPED, State.FAILED})
UNKNOWN_KIND = "unknown"
KERNEL_KILL = (
    "The machine ran out of memory and its kernel ended the worker: lower the batch size or cutoff_len, or choose a "
    "smaller model."
)


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
        """That of its config; unknown where that cannot be read."""
        try:
            return self.config.kind
        except ConfigError:
            return UNKNOWN_KIND

    @property
    def name(self) -> str:
        """What lists call it: its config's title, or its id where the config cannot be read."""
        return self.id if self.kind == UNKNOWN_KIND else self.config.title

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
        try:
            return datetime.strptime(self.id[:15], "%Y%m%d-%H%M%S").astimezone()
        except ValueError:  # a folder that a person named
            return datetime.fromtimestamp(self.path.stat().st_mtime).astimezone()

    @property
    def state(self) -> State:
        # exit.json once more after the processes: they may end while we look
        return self._ended() or self._living() or self._ended() or self._unattended()

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def reason(self) -> str:
        """Why the run ended as it did, in a sentence; empty while there is nothing to say."""
        state = self.state
        if state is State.FAILED:
            return self._failure()
        if state is State.STOPPED:  # by SLURM, as its time was up: nobody here has asked for it
            return _sentence(self.error)
        if state is State.DAMAGED:
            return f"{self.damage}. Put the file right, or delete the run."
        if state is State.LOST:
            advice = "Resume it from its last checkpoint." if self.checkpoints() else "Start it again."
            return f"The machine or its processes went down without a word. {advice}"
        return ""

    @property
    def damage(self) -> str:
        """What is wrong with the files that the state follows from; empty for a sound run."""
        try:
            self.config  # noqa: B018 (reading it is the check)
            for name in ("exit.json", "result.json", "error.json", "nanny.json", "worker.json"):
                if not isinstance(read_json(self.path / name), dict | None):
                    return f"{self.path / name} holds no JSON object"
        except (ConfigError, ValueError, OSError) as error:
            return str(error)
        if self.exit and str(self.exit.get("reason")) not in ENDS:
            return f"{self.path / 'exit.json'} gives no reason for the end that this version knows"
        return ""

    def process_alive(self, name: str) -> bool:
        """Whether the `nanny` or `worker` of this run lives."""
        return process.lives(self.path, name)

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first. They appear by rename; the state file is a second belt."""
        found = (self.path / "checkpoints").glob("checkpoint-*")
        complete = [path for path in found if _step(path) and (path / "trainer_state.json").exists()]
        return sorted(complete, key=_step)

    def request(self, name: str) -> None:
        """Touch a request file: STOP, STOP_NOW or SAVE."""
        (self.path / name).touch()

    def stop(self) -> None:
        """Ask the run to save and stop."""
        self.request("STOP")
        if not self.process_alive("nanny") and (ticket := cluster.Ticket.of(self.path)):
            cluster.cancel_waiting(ticket)

    def stop_now(self) -> None:
        """End the run without saving. Without a nanny to do it, the worker is signalled here."""
        self.request("STOP_NOW")
        if not self.process_alive("nanny"):
            process.kill(process.of_run(self.path), signal.SIGKILL)
            if ticket := cluster.Ticket.of(self.path):
                cluster.cancel(ticket)

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the memory of the machine ran out, and the kernel ended the worker for it."""
        return bool(self.exit.get("out_of_memory"))

    def _ended(self) -> State | None:
        if not (self.path / "exit.json").exists():
            return None
        return State.DAMAGED if self.damage else State(self.exit["reason"])

    def _living(self) -> State | None:
        if not queue.is_attended(self.path):
            return None
        if is_asked_to_stop(self.path):
            return State.STOPPING
        return State.QUEUED if (self.path / "WAIT").exists() or self._is_waiting_job() else State.RUNNING

    def _is_waiting_job(self) -> bool:
        """What is known of a job is seconds old; its own status is not."""
        return self._json(cluster.FILE).get("state") in slurm.WAITING and phase(self.path) in ("", QUEUED)

    def _unattended(self) -> State:
        """No exit.json and nobody alive: never started, or the nanny was killed. A result is written last, so it
        proves the end."""
        if self.damage:
            return State.DAMAGED
        if result := self.result:
            return State.STOPPED if result.get("stopped") else State.COMPLETED
        if self.error:
            return State.FAILED
        if is_asked_to_stop(self.path):
            return State.STOPPED
        return State.LOST if (self.path / "CLAIM").exists() else State.QUEUED

    def _failure(self) -> str:
        if error := self.error:
            return _sentence(error)
        if number := self.exit.get("signal"):
            return KERNEL_KILL if self.ran_out_of_memory else _signal_sentence(int(number))
        last = next(reversed([line for line in tail(self.log, 4000).splitlines() if line.strip()]), "")
        return f"The worker ended with code {self.exit.get('code')}: {last or 'it printed nothing'}"

    def _json(self, name: str) -> dict[str, Any]:
        return read_record(self.path / name)


def _sentence(card: dict[str, Any]) -> str:
    return " ".join(str(card[key]) for key in ("message", "hint") if card.get(key))


def _step(checkpoint: Path) -> int:
    """The step in a checkpoint's name; 0 for a folder that is called otherwise."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else 0


def _signal_sentence(number: int) -> str:
    if number == signal.SIGKILL:
        return (
            "The worker was killed (SIGKILL), by a person or another program as it seems: the kernel tells of no lack "
            "of memory. Start the run again."
        )
    named = {known.value: known.name for known in signal.Signals}
    return f"The worker was ended by {named.get(number, f'signal {number}')}; the last lines of the log say more."


def newest_first(runs: Iterator[Run]) -> list[Run]:
    """Ids begin with the time of creation."""
    return sorted(runs, key=lambda run: run.id, reverse=True)
