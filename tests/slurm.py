"""A real SLURM on this machine alone: its controller, and a slurmd for each node."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

PARTITIONS = {"main": ("one", "two"), "spare": ("three",), "blind": ("four",)}
NODES = tuple(node for nodes in PARTITIONS.values() for node in nodes)
CONTROLLER = "slurmctld"
START_S = 30.0
CONF = """\
ClusterName=seedbed
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=1
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=2
MessageTimeout=2
"""


class Slurm:
    """A cluster in a folder of its own; its commands need `environment`. Nodes of `blind` do not see `hidden`."""

    def __init__(self, hidden: Path) -> None:
        self._hidden = hidden
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not pytest's: a socket's path must be short
        self.conf = self.folder / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        ports = _ports(1 + len(NODES))
        text = CONF.format(folder=self.folder, user=getpass.getuser(), controller=ports[0])
        for node, port in zip(NODES, ports[1:], strict=True):
            text += f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2\n"
        for name, nodes in PARTITIONS.items():
            default = "YES" if name == "main" else "NO"
            text += f"PartitionName={name} Nodes={','.join(nodes)} Default={default} State=UP\n"
        self.conf.write_text(text)
        (self.folder / "state").mkdir()

    @property
    def environment(self) -> Mapping[str, str]:
        """What the commands of this cluster need to find it."""
        return {"SLURM_CONF": str(self.conf), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

    def start(self) -> None:
        """Start all of it and wait until its nodes are idle."""
        self.start_controller()
        for node in NODES:
            self._start_daemon(node)
        self._until(lambda: self.ask("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * len(NODES))

    def start_controller(self) -> None:
        """Start the controller, again too: it knows its jobs."""
        self._start(CONTROLLER, CONTROLLER, "-D")
        self._until(lambda: "UP" in self.ask("scontrol", "ping"))

    def start_node(self, node: str) -> None:
        """Start a node that was killed, and have it take jobs."""
        self._start_daemon(node)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")
        self.ask("scontrol", "update", f"nodename={node}", "state=resume")
        self._until(lambda: self.ask("sinfo", "-h", "-N", "-n", node, "-o", "%t").split() == ["idle"])

    def _start_daemon(self, node: str) -> None:
        (self.folder / node).mkdir(exist_ok=True)
        words = ["slurmd", "-D", "-N", node]
        if node in PARTITIONS["blind"] and can_hide():
            hide = f"mount -t tmpfs none {shlex.quote(str(self._hidden))} && exec {shlex.join(words)}"
            words = ["unshare", "--mount", "sh", "-c", hide]
        self._start(node, *words)

    def stop_controller(self) -> None:
        """As for its maintenance."""
        daemon = self._daemons.pop(CONTROLLER)
        daemon.terminate()
        daemon.wait()

    def kill_node(self, node: str) -> None:
        """What happens to all processes of a machine that loses its power."""
        self._daemons.pop(node).kill()
        self._kill_steps(node)

    def ask(self, *words: str) -> str:
        """What one of SLURM's commands prints; empty where it fails."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=30).stdout

    def close(self) -> None:
        """End all of it."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        for node in NODES:
            self._kill_steps(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_steps(self, node: str) -> None:
        steps = [each for each in psutil.process_iter() if _writes(each, self.folder / f"{node}.log")]
        for each in [*steps, *(child for step in steps for child in step.children(recursive=True))]:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def _start(self, name: str, *words: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            environment = {**os.environ, **self.environment}
            program = shutil.which(words[0], path=environment["PATH"])
            assert program
            self._daemons[name] = subprocess.Popen([program, *words[1:]], stdout=out, stderr=out, env=environment)

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            told = "".join(path.read_text()[-2000:] for path in self.folder.glob("*.out"))
            assert time.monotonic() < deadline, f"SLURM did not start:\n{told}"
            time.sleep(0.1)


def needed() -> None:
    """Skip where a cluster cannot be started."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacking = [name for name in (CONTROLLER, "slurmd", "sbatch") if not shutil.which(name, path=path)]
    if lacking:
        pytest.skip(f"SLURM is not installed here ({', '.join(lacking)}): tools/system.sh installs it on Debian")


def can_hide() -> bool:
    """Whether a node can be kept from seeing a folder: that takes root."""
    return os.geteuid() == 0 and not subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode


def _writes(process: psutil.Process, log: Path) -> bool:
    """Whether a process is one that slurmd has started for a job: it has slurmd's log open, and no telling words."""
    try:
        return process.name().startswith("slurmstepd") and any(each.path == str(log) for each in process.open_files())
    except psutil.Error:
        return False


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
