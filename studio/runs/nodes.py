"""The machines of one training: where they meet, who has joined, and which of them fell silent.

    python -m studio.runs.nodes RUN_DIR          in a SLURM job: writes down its machines

nodes.json is written once, before they start. Each further machine has a folder of its own, nodes/1 and so on, with the
files of a run in it: nanny.json, log.txt, status.json.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from studio.config.train import TrainConfig
from studio.errors import ConfigError, ParallelError, Problem
from studio.files import read_record, write_json
from studio.parallel.nodes import Command, Host, command, read_hostfile
from studio.parallel.strategies import STRATEGIES
from studio.runs import process
from studio.runs.run import Run
from studio.runs.waiting import is_asked_to_stop, tell
from studio.settings import ROOT

FOLDER = "nodes"
PHASE = "waiting for nodes"
POLL_S = 0.2
SAY_S = 2.0
REACH_S = 10.0
SILENT_S = 12.0  # three heartbeats
NODE_ADDRESS = re.compile(r"NodeAddr=(\S+)")


@dataclass(frozen=True)
class Meeting:
    """Where the machines of a run find each other, and who they are: the main one first.

    `is_job`: SLURM starts all of them; where it does not, a person does.
    """

    addr: str
    port: int
    hosts: tuple[Host, ...]
    is_job: bool = False

    @classmethod
    def read(cls, run_dir: Path) -> Meeting | None:
        """That of a run; None for one of a single machine."""
        value = read_record(run_dir / "nodes.json")
        return cls(**{**value, "hosts": tuple(Host(**host) for host in value["hosts"])}) if value else None

    def write(self, run_dir: Path) -> None:
        """Leave it in the run directory."""
        write_json(run_dir / "nodes.json", asdict(self))

    def called(self, run_dir: Path, node: int) -> str:
        """What a sentence calls a machine: by the name that it joined under, if nobody said it before."""
        name = self.hosts[node].name or read_record(folder(run_dir, node) / "nanny.json").get("host")
        return f"node {node} ({name})" if name else f"node {node}"


def arrange(config: TrainConfig) -> Meeting | None:
    """The meeting of a training on several machines that this one starts, on a port that is free now.

    Raises:
        ConfigError: the hostfile is at fault, or nobody could find this machine by its name.
    """
    is_ours = STRATEGIES[config.parallel_strategy].is_distributed and config.launcher == "local"
    if not is_ours or (config.nnodes == 1 and not config.hostfile):
        return None
    hosts = read_hostfile(Path(config.hostfile)) if config.hostfile else (Host(),) * config.nnodes
    addr = config.master_addr or hosts[0].name or socket.gethostname()
    try:
        socket.getaddrinfo(addr, None)
    except OSError as error:
        what = f"the other nodes are to find this machine as {addr!r}, which is no known address ({error}): set it"
        raise ConfigError([Problem("master_addr", what)]) from error
    return Meeting(addr, config.master_port or free_port(), hosts)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def folder(run_dir: Path, node: int) -> Path:
    """Where the files of machine number `node` are; those of the main one are the run's."""
    return run_dir / FOLDER / str(node) if node else run_dir


def commands(run: Run) -> tuple[Command, ...]:
    """What to type on every machine of a run but the main one; nothing where SLURM does it."""
    meeting = Meeting.read(run.path)
    if meeting is None or meeting.is_job:
        return ()
    python, root = Path(sys.executable), Path(ROOT)
    return tuple(command(python, root, run.path, node, host.name) for node, host in enumerate(meeting.hosts) if node)


def has_joined(run_dir: Path, node: int) -> bool:
    """Whether machine number `node` takes part."""
    return process.lives(folder(run_dir, node), "worker")


def gather(run_dir: Path) -> bool:
    """Wait until every machine has joined; the status says meanwhile what to type. False where the run was stopped.

    The port is open already, so that a machine that cannot reach this one learns it as it joins.

    Raises:
        ParallelError: somebody else has taken the port.
    """
    meeting, spoken = Meeting.read(run_dir), 0.0
    if meeting is None or meeting.is_job:
        return True
    with closing(_listen(meeting)) as door:
        while absent := [node for node in range(1, len(meeting.hosts)) if not has_joined(run_dir, node)]:
            if is_asked_to_stop(run_dir):
                return False
            if time.monotonic() - spoken > SAY_S:
                spoken = time.monotonic()
                tell(run_dir, PHASE, _invitation(run_dir, absent))
            _turn_away(door)
    tell(run_dir, "starting", "all nodes have joined")
    return True


def _invitation(run_dir: Path, absent: list[int]) -> str:
    asked = {each.node: each for each in commands(Run(run_dir))}
    typed = "; ".join(f"on {asked[node].host or f'node {node}'} type {asked[node].text}" for node in absent)
    return f"{len(absent)} more to join: {typed}"


def _listen(meeting: Meeting) -> socket.socket:
    try:
        door = socket.create_server(("", meeting.port), backlog=64)
    except OSError as error:
        text = f"port {meeting.port}, where the nodes were to meet, is taken by another program ({error.strerror})"
        raise ParallelError(f"{text}: start again, with another master_port if you set one") from error
    door.settimeout(POLL_S)
    return door


def _turn_away(door: socket.socket) -> None:
    """Whoever connects has what it wanted: to know that it can."""
    try:
        visitor, _ = door.accept()
    except TimeoutError:
        return
    visitor.close()


def check_reach(meeting: Meeting) -> None:
    """From another machine: whether the main one can be reached; it may be about to open its port.

    Raises:
        ParallelError: it cannot.
    """
    deadline = time.monotonic() + REACH_S
    while True:
        try:
            return socket.create_connection((meeting.addr, meeting.port), timeout=REACH_S).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ParallelError(
                    f"The main node does not answer from here at {meeting.addr}, port {meeting.port} ({error}): let "
                    "its firewall pass the port, or start the run with a master_addr and master_port that can be "
                    "reached."
                ) from error
        time.sleep(POLL_S)


def fallen(run_dir: Path, patience_s: float = SILENT_S) -> str | None:
    """Which machine went down and took the training with it, in a sentence; None where each said farewell.

    Looked at from the main one after the connection to another was lost. What counts is whether a heartbeat moves, as
    the clocks of two machines differ.
    """
    meeting = Meeting.read(run_dir)
    if meeting is None:
        return None
    before = {node: _heartbeat(run_dir, node) for node in range(1, len(meeting.hosts))}
    deadline = time.monotonic() + patience_s
    while (told := _killed(run_dir, meeting)) is None and time.monotonic() < deadline:
        before = {node: at for node, at in before.items() if _is_silent(run_dir, node, at)}
        if not before:
            return None
        time.sleep(POLL_S)
    if told is None:
        named = " and ".join(meeting.called(run_dir, node) for node in before)
        told = f"{named[0].upper()}{named[1:]} went down without a word, or cannot be reached any more."
    return told


def _killed(run_dir: Path, meeting: Meeting) -> str | None:
    for node in range(1, len(meeting.hosts)):
        if number := read_record(folder(run_dir, node) / "exit.json").get("signal"):
            return f"The processes on {meeting.called(run_dir, node)} were ended by signal {number}."
    return None


def _is_silent(run_dir: Path, node: int, before: object) -> bool:
    own = folder(run_dir, node)
    spoke = (own / "exit.json").exists() or (own / "error.json").exists()
    return not spoke and _heartbeat(run_dir, node) == before


def _heartbeat(run_dir: Path, node: int) -> object:
    return read_record(folder(run_dir, node) / "status.json").get("at")


def meet_in_job(run_dir: Path, port: int | None, environ: Mapping[str, str]) -> Meeting:
    """The meeting of the SLURM job that this is, on its first machine, under the address that SLURM has for it."""
    listed = _said("scontrol", "show", "hostnames", environ["SLURM_JOB_NODELIST"]).split()
    found = NODE_ADDRESS.search(_said("scontrol", "-o", "show", "node", listed[0]))
    return Meeting(found[1] if found else listed[0], port or free_port(), tuple(map(Host, listed)), is_job=True)


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    here = Path(sys.argv[1])
    asked = Run(here).config
    assert isinstance(asked, TrainConfig)
    meet_in_job(here, asked.master_port, os.environ).write(here)
