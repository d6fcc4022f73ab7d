"""Speed, memory and start of trainings on one GPU: shapes times methods through the worker, as a person starts them.

    python -m bench.gpu_train [--bare] [--profile] [--search] [--llamafactory FOLDER] [--data FILE] [CASE ...]

Nothing is set but the model, the rows, the method, and that no checkpoint is written between steps; the first half of
them is a warm-up. Instead of the table, `--bare` tells what a step costs beyond the computation,
`--profile` also where the time of the device goes, and `--search` what other passes than the chosen ones would give.
`--llamafactory` adds the same training by the one in that folder of packages. Without a GPU the bundled model is
trained for a few steps, to see that all of it runs. A case is chosen by its name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import _shapes
from bench._bare import WARM_UP_SHARE
from bench.gpu_parallel import made
from studio import machine, openmp
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.machine import GB
from studio.runs import events
from studio.runs.run import Run
from studio.runs.store import Store
from studio.settings import ROOT

FOLDER = ROOT / "bench" / "output" / "gpu"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "liger-kernel", "bitsandbytes")
LOOK_S = 0.05
SMALL_STEPS = 4
SMALL = {
    "model_name_or_path": "seedling", "max_steps": SMALL_STEPS, "gradient_accumulation_steps": 2, "cutoff_len": 512,
    "micro_batch_tokens": 512,
}  # fmt: skip
LORA = {"finetuning_type": "lora"}
FULL = {"finetuning_type": "full"}
PACKED = {"packing": True}
HEADINGS = (
    "case", "tokens/s", "of all", "step, ms", "tokens a step", "allocated GB", "on the card GB", "start, s", "of it",
    "passes", "computed by",
)  # fmt: skip
# takes all of the card but so many bytes, until its input ends
BALLAST = (
    "import sys, torch\n"
    "free, _ = torch.cuda.mem_get_info()\n"
    "held = torch.empty(free - int(sys.argv[1]), dtype=torch.uint8, device='cuda')\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@dataclass(frozen=True)
class Case:
    """A training of one shape; `within` is all that it finds free on the card, in GiB."""

    name: str
    shape: str
    options: dict[str, Any]
    within: float | None = None

    @property
    def rows(self) -> str:
        return "pairs" if self.options.get("stage") == "dpo" else "rows"


CASES = [
    Case("7b-lora", "7b", LORA),
    Case("7b-lora-21", "7b", LORA, within=21),
    Case("1.1b-lora", "1.1b", LORA),
    Case("1.1b-full", "1.1b", FULL),
    Case("7b-qlora-10", "7b", {**LORA, "quantization_bit": 4}, within=10),
    Case("7b-dpo-lora", "7b", {**LORA, "stage": "dpo"}),
    Case("7b-lora-packed", "7b", {**LORA, **PACKED}),
    Case("7b-lora-packed-21", "7b", {**LORA, **PACKED}, within=21),
    Case("1.1b-lora-packed", "1.1b", {**LORA, **PACKED}),
    Case("1.1b-full-packed", "1.1b", {**FULL, **PACKED}),
]
USUAL = {"cutoff_len": 2048, "gradient_accumulation_steps": 8}
BEST = {
    "cutoff_len": 4096, "gradient_accumulation_steps": 2, "packing": True, "neat_packing": True,
    "enable_liger_kernel": True,
}  # fmt: skip
SMALL_THERE = {"cutoff_len": 512, "enable_liger_kernel": False}  # whose kernels need a GPU
RECIPES = {"usual": (USUAL, 10), "best": (BEST, 12)}  # with the number of steps


@dataclass
class Card:
    """The memory of the GPU that all others do not hold, at its peak, in bytes; None without a GPU."""

    before: int
    peak: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def gb(self) -> float | None:
        return (self.peak - self.before) / GB if self.peak else None

    def watch(self) -> None:
        """Look until it is over."""
        while not self.over.wait(LOOK_S):
            self.peak = max(self.peak, _used())


def main(words: list[str]) -> int:
    """Run the cases asked for; the number of those that failed."""
    asked = _parser().parse_args(words)
    print(f"{_device()}; {', '.join(f'{name} {_version(name)}' for name in PACKAGES)}")
    data = _shapes.alpaca(FOLDER / "data", asked.data)
    store = Store(FOLDER / "saves")
    extras = [name for name in ("bare", "profile", "search") if getattr(asked, name)]
    failed = 0
    if not extras:
        _row(HEADINGS)
        _row(["---"] * len(HEADINGS))
    for case in CASES:
        if not asked.cases or case.name in asked.cases:
            failed += _tell_inside(case, store, data, extras) if extras else _tell(case, store, data)
    for name in RECIPES if asked.llamafactory else ():
        failed += _tell_llamafactory(name, asked.llamafactory, data)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.gpu_train")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(case.name for case in CASES))
    for name in ("bare", "profile", "search"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--llamafactory", type=Path, metavar="FOLDER")
    parser.add_argument("--data", type=Path, default=_shapes.PUBLIC, metavar="FILE")
    return parser


def _tell(case: Case, store: Store, data: Path) -> bool:
    """Train as a person would and print a line; whether it failed."""
    config = _config(case, data)
    with _within(case), _watched() as card:
        run = _train(config, store)
    if not run.result:
        _row([case.name, f"FAILED: {run.reason}"])
        return True
    _row([case.name, *_figures(run, card)])
    return False


def _config(case: Case, data: Path) -> TrainConfig:
    own = {"model_name_or_path": made(case.shape)} if _on_gpu() else SMALL
    same = {"dataset_dir": str(data), "dataset": case.rows, "save_steps": 0}
    return parse(TrainConfig, {**same, **own, **case.options})


def _train(config: TrainConfig, store: Store) -> Run:
    words = [
        f"{key}={json.dumps(value)}" for key, value in config.model_dump(mode="json", exclude_defaults=True).items()
    ]
    environment = {**os.environ, "SEEDBED_SAVES": str(store.saves), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "studio", "train", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if not store.list("train"):
        sys.exit(done.stdout + done.stderr)
    return store.list("train")[0]


def _figures(run: Run, card: Card) -> Iterator[str]:
    steps = [event for event in events.read(run.metrics)[0] if event["type"] == "step"]
    ended = [(step["at"], step["tokens"]) for step in steps]
    log = run.log.read_text(errors="replace")
    yield from _speed(ended)
    yield f"{max(step['memory_gb'] for step in steps):.2f}"
    yield f"{card.gb:.2f}" if card.gb else "-"
    seconds, parts = started(log)
    yield f"{seconds:.1f}, from the command {steps[0]['at'] - run.created.timestamp():.1f}"
    yield parts
    yield ", ".join(f"{name} {value}" for name, value in (run.result.get("passes") or {}).items())
    yield "; ".join(ways(log))


def _speed(ended: list[tuple[float, int]]) -> Iterator[str]:
    """Of steps after the warm-up, when each ended and how many tokens there had been by then."""
    timed = ended[max(1, len(ended) // WARM_UP_SHARE) - 1 :]
    times = [after[0] - before[0] for before, after in pairwise(timed)]
    tokens = [after[1] - before[1] for before, after in pairwise(timed)]
    yield f"{statistics.median(count / spent for count, spent in zip(tokens, times, strict=True)):,.0f}"
    yield f"{sum(tokens) / sum(times):,.0f}"
    yield f"{statistics.median(times) * 1e3:.0f}"
    yield f"{statistics.mean(tokens):,.0f}"


def started(log: str) -> tuple[float, str]:
    """Seconds from the birth of the worker to the end of its first step, and its own account of them."""
    found = re.search(r"started in ([\d.]+) s: (.*)", log)
    return (float(found[1]), found[2]) if found else (float("nan"), "")


def ways(log: str) -> list[str]:
    """What the worker says it computed by."""
    return list(dict.fromkeys(re.findall(r"computed by (.*)", log)))


def _tell_inside(case: Case, store: Store, data: Path, extras: list[str]) -> bool:
    """Train in a process that is looked into, and print what was found there."""
    run = store.create(_config(case, data))
    environment = {**os.environ, **openmp.environment(os.environ), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bench._bare", str(run.path), *extras]
    with _within(case), open(run.log, "wb") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if not (run.path / "bare.json").exists():
        print(f"\n{case.name} FAILED inside: {run.log.read_text(errors='replace')[-1500:]}", flush=True)
        return True
    found = json.loads((run.path / "bare.json").read_text())
    steps, with_trainer, bare = found["timed_steps"], found["trainer_s"], found["bare_s"]
    told = f"{with_trainer / steps * 1e3:.1f} ms a step, bare {bare / steps * 1e3:.1f}: {with_trainer / bare - 1:+.1%}"
    print(f"\n{case.name}: {told} for reporting, data loading, collation", flush=True)
    _tell_profile(found.get("profile_ms", {}))
    _tell_search(found.get("search", []))
    return False


def _tell_profile(kinds: dict[str, float]) -> None:
    whole = sum(kinds.values())
    for kind, ms in kinds.items():
        _row([kind, f"{ms:.1f} ms", f"{ms / whole:.1%}"])


def _tell_search(tried: list[dict[str, Any]]) -> None:
    if not tried:
        return
    best = max(found["tokens_per_s"] or 0.0 for found in tried)
    _row(["tokens at once", "passes", "layers recomputed", "tokens/s", "allocated GB", "reserved GB", ""])
    for found in tried:
        speed = found["tokens_per_s"]
        remark = "chosen: " * found["is_chosen"] + (f"{speed / best - 1:+.1%} of the best" if speed else "")
        memory = [f"{found[name]:.2f}" if name in found else "-" for name in ("allocated_gb", "reserved_gb")]
        told = f"{speed:,.0f}" if speed else "does not fit"
        _row([str(found["tokens"]), str(found["passes"]), str(found["recomputed"]), told, *memory, remark])


def _tell_llamafactory(name: str, folder: Path, data: Path) -> bool:
    """Train the 7B shape by LoRA there, and print a line like the others; whether it failed."""
    keys, steps = RECIPES[name]
    home = FOLDER / f"llamafactory-{name}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    found = home / "found.json"
    (home / "settings.json").write_text(json.dumps(_llamafactory(keys, steps, data, home)))
    begun = time.time()
    with _watched() as card:
        _run_llamafactory(home, folder, found)
    if not found.exists():
        _row([f"LLaMA-Factory, {name}", f"FAILED: {(home / 'log.txt').read_text(errors='replace')[-1500:]}"])
        return True
    told = json.loads(found.read_text())
    allocated = f"{told['peaks_gb'][0]:.2f}" if told["peaks_gb"] else "-"
    on_card = f"{card.gb:.2f}" if card.gb else "-"
    start = f"{told['steps'][0][0] - begun:.1f}"
    _row([f"LLaMA-Factory, {name}", *_speed(told["steps"]), allocated, on_card, start])
    return False


def _llamafactory(keys: dict[str, Any], steps: int, data: Path, home: Path) -> dict[str, Any]:
    on_gpu = _on_gpu()
    model = made("7b") if on_gpu else str(ROOT / "studio/assets/seedling")
    return {
        "stage": "sft", "do_train": True, "finetuning_type": "lora", "lora_rank": 8, "lora_target": "all",
        "model_name_or_path": model, "template": "llama2", "dataset_dir": str(data), "dataset": "rows",
        "per_device_train_batch_size": 2, "learning_rate": 1e-4, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "output_dir": str(home / "output"), "bf16": on_gpu,
        "max_steps": steps if on_gpu else SMALL_STEPS,
        **keys, **({} if on_gpu else SMALL_THERE),
    }  # fmt: skip


def _run_llamafactory(home: Path, folder: Path, found: Path) -> None:
    path = os.pathsep.join([str(folder.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bench._llamafactory", str(home / "settings.json"), str(found)]
    with open(home / "log.txt", "wb") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)


@contextmanager
def _within(case: Case) -> Iterator[None]:
    """Somebody else holds the rest of the card, so that the worker finds what it would on a smaller one."""
    if case.within is None or not _on_gpu():
        yield
        return
    command = [sys.executable, "-c", BALLAST, str(round(case.within * 2**30))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ballast:
        assert ballast.stdout
        try:
            assert ballast.stdout.readline() == "held\n"
            yield
        finally:
            ballast.kill()


@contextmanager
def _watched() -> Iterator[Card]:
    card = Card(_used())
    thread = threading.Thread(target=card.watch)
    thread.start()
    try:
        yield card
    finally:
        card.over.set()
        thread.join()


def _used() -> int:
    return next((gpu.used for gpu in machine.gpus()), 0)


def _on_gpu() -> bool:
    return any(True for _ in machine.gpus())


def _device() -> str:
    return next((gpu.name for gpu in machine.gpus()), "no GPU: the bundled model, to see that all runs")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _row(cells: Iterator[str] | list[str] | tuple[str, ...]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
