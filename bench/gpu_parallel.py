"""Strategies of distributed training: speed, and memory of each device beside what the form foretells. One table.

    python -m bench.gpu_parallel [CASE ...]

On all GPUs of the machine; without any, two processes on the CPU train the bundled model instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench import _shapes
from studio import machine
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.planning import look, plan
from studio.runs import events
from studio.runs.run import Run
from studio.runs.store import Store
from studio.settings import ROOT

FOLDER = ROOT / "bench" / "output" / "gpu"
STEPS, EIGHT_STEPS, WARM_UP = {"1.1b": 30, "7b": 12}, 12, 4
HEADINGS = (
    "case", "processes", "tokens a step", "tokens/s", "per device", "peak GB of each device", "foretold GB", "start, s",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A training of one shape by one strategy; `options` are the keys that differ from the defaults."""

    shape: str
    strategy: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Shape, method, strategy, and what is special."""
        offload = "-offload" if "offload_optimizer" in self.options else ""
        batches = self.options["gradient_accumulation_steps"]
        return f"{self.shape}-{self.options['finetuning_type']}-{self.strategy}{offload}-x{batches}"


# one batch a step, which leaves communication nothing to hide behind, and the form's default
ONE, EIGHT = {"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 8}
FULL = {"finetuning_type": "full", "learning_rate": 1e-5, **ONE}
LORA = {"finetuning_type": "lora", **ONE}
CASES = [
    *(Case("1.1b", strategy, FULL) for strategy in ("single", "ddp", "zero2", "fsdp2")),
    *(Case("1.1b", strategy, {**FULL, **EIGHT}) for strategy in ("single", "ddp")),
    *(Case("1.1b", strategy, LORA) for strategy in ("single", "ddp")),
    *(Case("7b", strategy, FULL) for strategy in ("zero1", "zero2", "zero3", "fsdp2")),
    Case("7b", "zero3", {**FULL, "offload_optimizer": "cpu"}),
    *(Case("7b", strategy, LORA) for strategy in ("single", "ddp", "zero3", "fsdp2", "device_map")),
]


def main(wanted: list[str]) -> int:
    """Run the cases whose names begin as asked, or all; the number of those that failed."""
    store = Store(FOLDER / "saves")
    data = _shapes.rows(FOLDER / "data")
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|", flush=True)
    failed = 0
    for case in CASES:
        if wanted and not any(case.name.startswith(word) for word in wanted):
            continue
        config = parse(TrainConfig, {**_keys(case), "dataset_dir": str(data)})
        run = _train(config, store)
        cells = list(_figures(run, config, store)) if run.result else [f"FAILED: {run.reason}"]
        failed += not run.result
        print("| " + " | ".join([case.name, *cells]) + " |", flush=True)
    return failed


def _keys(case: Case) -> dict[str, Any]:
    on_gpu = bool(list(machine.gpus()))
    model = str(made(case.shape)) if on_gpu else "seedling"
    length = 4096 if on_gpu else 256
    same = {"model_name_or_path": model, "dataset": "words", "packing": True, "cutoff_len": length, "save_steps": 0}
    sizes = {"per_device_train_batch_size": 2, "max_steps": _steps(case), "run_name": case.name}
    return {**same, **sizes, **case.options, "parallel_strategy": case.strategy}


def _steps(case: Case) -> int:
    return EIGHT_STEPS if case.options["gradient_accumulation_steps"] == 8 else STEPS[case.shape]


def made(shape: str) -> str:
    """In a process of its own, whose CUDA context ends with it."""
    folder = FOLDER / f"llama-{shape}"
    code = f"from pathlib import Path; from bench import _shapes; _shapes.llama({shape!r}, Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return str(folder)


def _train(config: TrainConfig, store: Store) -> Run:
    words = [
        f"{key}={json.dumps(value)}" for key, value in config.model_dump(mode="json", exclude_defaults=True).items()
    ]
    environment = {**os.environ, "SEEDBED_SAVES": str(store.saves), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "studio", "train", *words], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if not store.list("train"):
        sys.exit(done.stdout + done.stderr)
    return store.list("train")[0]


def _figures(run: Run, config: TrainConfig, store: Store) -> Iterator[str]:
    history, _ = events.read(run.metrics)
    steps = [event for event in history if event["type"] == "step"]
    timed = steps[WARM_UP:]
    tokens = steps[-1]["tokens"] / len(steps)
    speed = tokens * (len(timed) - 1) / (timed[-1]["at"] - timed[0]["at"])
    processes = run.result.get("world_size", 1)
    yield str(processes)
    yield f"{tokens:.0f}"
    yield f"{speed:,.0f}"
    yield f"{speed / processes:,.0f}"
    yield " ".join(f"{gb:.1f}" for gb in run.result.get("memory_gb_per_device") or [steps[-1]["memory_gb"]])
    yield _foretold(config, store)
    yield f"{steps[0]['at'] - run.created.timestamp():.0f}"


def _foretold(config: TrainConfig, store: Store) -> str:
    found = plan(config, Registry(_shapes.rows(FOLDER / "data")), look(store.saves), store).verdict
    return f"{found.memory.tensors_gb:.1f}" if found else "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
