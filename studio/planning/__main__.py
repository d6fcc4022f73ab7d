"""What the form foretells of a training's memory: python -m studio.planning CONFIG.yaml [key=value ...] [gpus=2x141]

`gpus` stands for that many devices of so many GB, whatever this machine has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from studio import settings
from studio.config import load
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.machine import GB, Gpu, Machine, look
from studio.planning.plan import plan
from studio.runs.store import Store


def main(words: Sequence[str]) -> int:
    """Print the parts of one device, and the verdict."""
    here = settings.from_environment()
    values = {key: value for word in words if "=" not in word for key, value in load.read_yaml(Path(word)).items()}
    values |= load.overrides(word for word in words if "=" in word)
    machine = _machine(values.pop("gpus", None), look(here.saves_dir))
    config = load.parse(TrainConfig, values)
    found = plan(config, Registry(Path(values.get("dataset_dir", here.data_dir))), machine, Store(here.saves_dir))
    if found.verdict is None:
        print(*found.unknown, sep="\n", file=sys.stderr)
        return 1
    parts = ", ".join(f"{name} {size:.2f}" for name, size in asdict(found.verdict.memory).items())
    print(f"{config.parallel_strategy}, {found.processes} processes: {parts} GB")
    print(found.verdict.words)
    print(found.verdict.course.words or "batches as they come")
    return 0


def _machine(gpus: str | None, here: Machine) -> Machine:
    if gpus is None:
        return here
    count, _, size_gb = str(gpus).partition("x")
    devices = tuple(Gpu(index, "GPU", int(float(size_gb) * GB), 0, 0) for index in range(int(count)))
    return replace(here, gpu=devices[0], gpus=devices)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
