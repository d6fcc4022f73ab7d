"""The worker of a training of several processes: python -m studio.worker.launch RUN_DIR [NODE]

torchrun's agent runs in here and starts the processes of this machine, each a studio.worker.train with a log of its
own. How the run ended is judged by what they left: the result, or the card of the one that was the first to fail.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from studio import machine
from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.errors import ParallelError, SeedbedError
from studio.files import read_record, write_json
from studio.runs import nodes
from studio.runs.process import kernel_kills
from studio.runs.waiting import is_asked_to_stop
from studio.worker import cards, election, ranks
from studio.worker.cards import Card
from studio.worker.door import COMPLETED, FAILED, leave
from studio.worker.report import Reporter, say
from studio.worker.stop import STOPPED, Requests

if TYPE_CHECKING:
    from studio.worker.agent import Ended

COMMAND = ("-m", "studio.worker.train")
PROCESSES_ON_CPU = 2


def main(run_dir: Path, node: int = 0) -> int:
    """Run the training's processes of this machine, number `node`, to their end; the exit code of a worker."""
    requests = Requests(run_dir, last_words=lambda: None, heeds=node == 0)
    reporter = Reporter(nodes.folder(run_dir, node)) if node else None  # of the main one it is the first process
    try:
        if reporter:
            reporter.phase("training")
        return _launch(run_dir, node, requests)
    except SeedbedError as error:
        return _fail(run_dir, node, cards.of(error, run_dir, "starting"))
    finally:
        if reporter:
            reporter.close()


def _launch(run_dir: Path, node: int, requests: Requests) -> int:
    config = load_run_config(run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    processes = _prepare(config, run_dir, node)
    if node == 0 and not nodes.gather(run_dir):
        return STOPPED
    kills = kernel_kills()
    requests.protect()  # from here on the first process hears them
    ended = _run(config, run_dir, node, processes)
    if (run_dir / "result.json").exists():
        return STOPPED if read_record(run_dir / "result.json").get("stopped") else COMPLETED
    if is_asked_to_stop(run_dir) and _went_as_asked(run_dir, ended):
        return STOPPED
    if not any(ended.codes.values()) and not ended.ended:
        return COMPLETED  # of another machine than the one that writes the result
    if ended.signal is signal.SIGINT:
        return STOPPED  # as one process has it
    if ended.signal:
        say(f"the training was ended by {ended.signal.name}")
        return FAILED
    return _fail(run_dir, node, election.elect(run_dir, node, ended, kernel_kills() > kills))


def _prepare(config: TrainConfig, run_dir: Path, node: int) -> int:
    """Set the environment that the processes inherit; how many there are on this machine.

    Raises:
        ParallelError: there are fewer GPUs.
    """
    if config.devices:
        os.environ.update(CUDA_VISIBLE_DEVICES=config.devices, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    os.environ[ranks.PARENT] = str(os.getpid())
    os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # read as torch is loaded
    gpus = _gpus()
    processes = _slots(run_dir, node) or config.nproc_per_node or gpus or PROCESSES_ON_CPU
    if gpus and processes > gpus:
        raise ParallelError(
            f"{processes} processes were asked for and there are {gpus} GPUs here, one for each: set nproc_per_node to "
            f"{gpus} or less, or name more GPUs in devices"
        )
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    return processes


def _gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sum(1 for _ in machine.gpus())
    return found if visible is None else min(found, len([name for name in visible.split(",") if name.strip()]))


def _slots(run_dir: Path, node: int) -> int | None:
    meeting = nodes.Meeting.read(run_dir)
    return meeting.hosts[node].slots if meeting else None


def _run(config: TrainConfig, run_dir: Path, node: int, processes: int) -> Ended:
    """Start them; where nobody asked for a port and the one that was free is taken by now, on another."""
    from studio.worker import agent

    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # theirs
    meeting = nodes.Meeting.read(run_dir)
    address, port = (meeting.addr, meeting.port) if meeting else ("127.0.0.1", config.master_port)
    machines = len(meeting.hosts) if meeting else 1
    plan = agent.Plan(run_dir, node, machines, processes, address, port or nodes.free_port(), config.ddp_timeout)
    command = (*COMMAND, str(run_dir))
    try:
        return agent.run(plan, command)
    except agent.PortTaken:
        if port:
            raise
        return agent.run(replace(plan, port=nodes.free_port()), command)


def _went_as_asked(run_dir: Path, ended: Ended) -> bool:
    """Whether the processes ended because they were asked to: a signal, too, is then the nanny's."""
    codes = ended.codes.values()
    return bool(ended.signal) or (run_dir / "STOP_NOW").exists() or STOPPED in codes or not any(codes)


def _fail(run_dir: Path, node: int, card: Card) -> int:
    say(f"error: {card.message} {card.hint}".rstrip())
    write_json(nodes.folder(run_dir, node) / "error.json", {**asdict(card), "at": time.time()})
    return FAILED


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:])))
