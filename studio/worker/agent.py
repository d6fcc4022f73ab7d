"""torchrun's agent for the processes of one machine: it starts them, watches them, and ends all when one has ended.

What it adds: it remembers who had ended before the others were made to, it waits seconds for them and not half a
minute, and it ends its own when the run is over on another machine.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.distributed import DistNetworkError
from torch.distributed.elastic.agent.server.api import RunResult, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs, SignalException
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

from studio.errors import ParallelError
from studio.files import read_record
from studio.worker.ranks import FOLDER

GRACE_S = 3  # of a process that is asked to end
BARRIER_S = 60.0  # how long the machines wait for each other in the end
LOOK_S = 1.0


class PortTaken(ParallelError):
    """Another program listens where the processes were to meet."""


@dataclass(frozen=True)
class Plan:
    """The processes of this machine: number `node` of `nodes`, `processes` on it, and where all of them meet."""

    run_dir: Path
    node: int
    nodes: int
    processes: int
    address: str
    port: int
    timeout_s: int


@dataclass(frozen=True)
class Ended:
    """How the processes of this machine ended.

    `codes`: by rank, of those that ended by themselves (as subprocess has it: negative is a signal). `ended`: the
    ranks that were made to end then. `signal`: the one that this program was ended by, if any.
    """

    codes: dict[int, int]
    ended: tuple[int, ...]
    signal: signal.Signals | None = None


class Logs(LogsSpecs):  # type: ignore[misc]  # torch is untyped
    """The processes see to their logs themselves: torch would open a file twice, and outputs overwrite errors."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(str(run_dir / FOLDER))

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Where the processes of this machine write, by local rank."""
        for env in envs.values():
            env["TORCHELASTIC_ERROR_FILE"] = str(Path(self.root_log_dir) / env["RANK"] / "torchelastic.json")
        inherited = dict.fromkeys(envs, "")
        return LogsDest(inherited, inherited, {}, {}, {at: env["TORCHELASTIC_ERROR_FILE"] for at, env in envs.items()})

    @property
    def root_log_dir(self) -> str:
        return str(self._root_log_dir)


class Agent(LocalElasticAgent):  # type: ignore[misc]  # torch is untyped
    """The agent of one machine."""

    def __init__(self, plan: Plan, spec: WorkerSpec) -> None:
        super().__init__(spec, Logs(plan.run_dir), exit_barrier_timeout=BARRIER_S)
        self.codes: dict[int, int] | None = None
        self._others = Others(plan)

    def _start_workers(self, worker_group: Any) -> dict[int, Any]:
        pids: dict[int, Any] = super()._start_workers(worker_group)
        self._close = self._pcontext.close
        self._pcontext.close = self._end_all  # it would wait for half a minute
        return pids

    def _monitor_workers(self, worker_group: Any) -> RunResult:
        if self._others.are_over():
            return RunResult(state=WorkerState.FAILED)
        return super()._monitor_workers(worker_group)

    def _end_all(self, death_sig: signal.Signals | None = None, timeout: int = GRACE_S) -> None:
        if self.codes is None:
            found = {rank: process.poll() for rank, process in self.processes().items()}
            self.codes = {rank: code for rank, code in found.items() if code is not None}
        self._close(death_sig, min(timeout, GRACE_S))

    def processes(self) -> dict[int, Any]:
        """Those of this machine by rank, once they were started."""
        handlers = self._pcontext.subprocess_handlers if self._pcontext else {}
        workers = self.get_worker_group().workers
        return {workers[local].global_rank: handler.proc for local, handler in handlers.items()}


class Others:
    """Whether the run is over elsewhere: a machine that fell silent closes no connection."""

    def __init__(self, plan: Plan) -> None:
        machines = [node for node in range(plan.nodes) if node != plan.node and 0 in (node, plan.node)]
        self._folders = [plan.run_dir / f"nodes/{node}" if node else plan.run_dir for node in machines]
        self._looked, self._main = 0.0, plan.run_dir
        self._patience_s = plan.timeout_s
        self._beats: dict[Path, tuple[float, bytes]] = {}

    def are_over(self) -> bool:
        """Whether one of them has failed, or has given no sign of life for as long as ddp_timeout says."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return False
        self._looked = now
        return any(self._has_ended(each) or self._is_silent(each, now) for each in self._folders)

    def _has_ended(self, folder: Path) -> bool:
        """The main one may end in any way before us; of the others those that failed."""
        reason = read_record(folder / "exit.json").get("reason")
        return (folder / "error.json").exists() or reason == "failed" or (folder == self._main and bool(reason))

    def _is_silent(self, folder: Path, now: float) -> bool:
        # by our own clock: those of several machines may differ
        beat = (folder / "status.json").read_bytes() if (folder / "status.json").exists() else b""
        since, last = self._beats.get(folder, (now, beat))
        self._beats[folder] = (since if beat == last else now, beat)
        return beat == last and now - since > self._patience_s


def run(plan: Plan, command: tuple[str, ...]) -> Ended:
    """Run `command` in every process of this machine to the end of all.

    Raises:
        PortTaken: before anything was started.
        ParallelError: the machines do not find each other.
    """
    logging.disable(logging.CRITICAL)  # what it says is said better by the error card
    meeting = StaticTCPRendezvous(
        plan.address, plan.port, plan.node, plan.nodes, plan.run_dir.name, timeout=plan.timeout_s
    )
    spec = WorkerSpec(
        role="train",
        local_world_size=plan.processes,
        rdzv_handler=meeting,
        entrypoint=sys.executable,
        args=command,
        max_restarts=0,
        monitor_interval=0.1,
        master_addr=plan.address,
        master_port=plan.port,
    )
    agent, ended_by = Agent(plan, spec), None
    try:
        agent.run()
    except SignalException as error:
        ended_by = error.sigval
    except DistNetworkError as error:
        raise _unmet(plan, str(error)) from error
    codes = agent.codes or {}
    return Ended(codes, tuple(rank for rank in agent.processes() if rank not in codes), ended_by)


def _unmet(plan: Plan, why: str) -> ParallelError:
    if "EADDRINUSE" in why:
        return PortTaken(f"master_port: another program listens at {plan.port}; choose another, or leave it empty")
    text = f"the main node does not answer at {plan.address}, port {plan.port}: {why.splitlines()[0].partition('[')[0]}"
    return ParallelError(text.strip())
