"""Which of the processes of one training this is. Light: read before anything heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PARENT = "SEEDBED_LAUNCHER"  # the process that ours must not outlive
FOLDER = "ranks"  # in the run directory: log, status, figures and error card of each process


@dataclass(frozen=True)
class Rank:
    """One process: number `index` of `world`, number `local` of `beside` on machine number `node` of `nodes`."""

    index: int = 0
    world: int = 1
    local: int = 0
    node: int = 0
    nodes: int = 1
    beside: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Rank:
        """As the launcher says in the environment; alone where there was none."""
        if "WORLD_SIZE" not in environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE")
        return cls(*(int(environ[name]) for name in names))

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.index == 0

    def folder(self, run_dir: Path) -> Path:
        """Where the files go that only this process writes."""
        return run_dir / FOLDER / str(self.index)

    def desk_folder(self, run_dir: Path) -> Path:
        """Where it reports to: the first one speaks for the run."""
        return run_dir if self.is_first else self.folder(run_dir)
