"""The worker of a training of several processes: python -m studio.worker.launch RUN_DIR [NODE_RANK]

torchrun's agent runs in here. It starts the processes of this machine, each a studio.worker.train with a log of its
own, and ends them all when one has died. What they left is read then: the run ends with the reason of the process that
was the first to fail.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.files import read_record
from studio.worker.door import COMPLETED, FAILED, leave
from studio.worker.ranks import FOLDER
from studio.worker.stop import STOPPED


class RankLogs(LogsSpecs):  # type: ignore[misc]  # torch is untyped
    """One log for each process, in its folder; the first one's is that of the run."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(str(run_dir / FOLDER))
        self._folder = run_dir / FOLDER

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Where the processes of this machine write, by local rank."""
        files: dict[int, str] = {}
        for local, env in envs.items():
            folder = self._folder / env["RANK"]
            folder.mkdir(parents=True, exist_ok=True)
            files[local] = "" if env["RANK"] == "0" else str(folder / "log.txt")
            env["TORCHELASTIC_ERROR_FILE"] = str(folder / "torchelastic.json")
        errors = {local: env["TORCHELASTIC_ERROR_FILE"] for local, env in envs.items()}
        return LogsDest(files, dict(files), {}, {}, errors)

    @property
    def root_log_dir(self) -> str:
        return str(self._folder)


def main(run_dir: Path, node_rank: int = 0) -> int:
    """Run the training's processes of this machine to their end; the exit code of a worker."""
    config = load_run_config(run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    launch = elastic_launch(_plan(config, run_dir, node_rank), sys.executable)
    try:
        launch("-m", "studio.worker.train", str(run_dir))
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        return STOPPED if STOPPED in codes else FAILED
    return STOPPED if read_record(run_dir / "result.json").get("stopped") else COMPLETED


def _plan(config: TrainConfig, run_dir: Path, node_rank: int) -> LaunchConfig:
    port = config.master_port or _free_port()
    return LaunchConfig(
        min_nodes=config.nnodes,
        max_nodes=config.nnodes,
        nproc_per_node=config.nproc_per_node or 2,
        run_id=run_dir.name,
        rdzv_backend="static",
        rdzv_endpoint=f"{config.master_addr or '127.0.0.1'}:{port}",
        rdzv_configs={"rank": node_rank, "timeout": config.ddp_timeout},
        max_restarts=0,
        logs_specs=RankLogs(run_dir),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    leave(main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:])))
