"""Training, merging and serving on one CUDA device, through the command line as a person would. Prints one table.

    python -m bench.gpu_smoke [identity] [llama] [merge] [serve]

`merge` and `serve` take what `llama` and `identity` left in bench/output/gpu.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from bench import _shapes
from studio.runs import events
from studio.runs.run import Run
from studio.runs.store import Store
from studio.settings import ROOT

FOLDER = ROOT / "bench" / "output" / "gpu"
LLAMA = FOLDER / "llama-1.1b"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "vllm")
ROWS_A_STEP = (4, 64)
STEPS = 30
Rows = Iterator[tuple[str, str]]


def main(wanted: list[str]) -> int:
    """Run the stages named, or all; the number of those that broke."""
    if not shutil.which("nvidia-smi"):
        print("no CUDA device: nothing measured")
        return 0
    os.environ |= {"SEEDBED_SAVES": str(FOLDER / "saves"), "HF_HUB_OFFLINE": "1"}
    broken = 0
    _print("device", _smi("name"))
    _print("versions", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    for name in wanted or STAGES:
        try:
            for row in STAGES[name]():
                _print(*row)
        except CommandFailed as error:
            broken += 1
            _print(f"{name} FAILED", str(error))
    return broken


class CommandFailed(Exception):
    """A command of the studio ended with an error; the message is the end of what it printed."""


def identity() -> Rows:
    """The bundled model learns who it is."""
    yield from _train("identity", "identity", "model_author=Ada")


def llama() -> Rows:
    """A random Llama of 1.1 billion parameters learns the demo rows."""
    started = time.monotonic()
    if not LLAMA.exists():
        _shapes.llama("1.1b", LLAMA)
        yield "1.1B Llama made, s", f"{time.monotonic() - started:.1f}"
    for rows in ROWS_A_STEP:
        keys = (f"model_name_or_path={LLAMA}", "dataset=alpaca_demo", f"per_device_train_batch_size={rows}")
        sizes = ("gradient_accumulation_steps=1", f"max_steps={STEPS}", "save_steps=0", "run_name=llama")
        yield from _train(f"1.1B LoRA, {rows} rows a step", *keys, *sizes)


def merge() -> Rows:
    """The newest adapter of the big model is folded into it."""
    seconds, _ = _studio("merge", _newest("train", "llama").id)
    run = _newest("merge")
    report = json.loads((run.path / "report.json").read_text())
    yield "1.1B merge, command to its end, s", f"{seconds:.1f}"
    figures = f"{report['computed_in']}, {report['kl']:.1e}, {report['kl_base']:.1e}"
    yield "1.1B merge, computed in, KL, KL of the base", figures
    yield "1.1B merge, same greedy answers, GB written", f"{report['same_answers']}, {run.result['bytes'] / 1e9:.2f}"


def serve() -> Rows:
    """Base and adapter of the bundled model answer side by side from one server."""
    tuned = _newest("train", "identity")
    before = _smi("memory.used")
    options = ("gpu_memory_utilization=0.3", "max_lora_rank=32", "max_model_len=1024")
    seconds, _ = _studio("serve", "seedling", "--adapter", f"sprout={tuned.id}", *options)
    run = _newest("serve")
    phases = json.loads((run.path / "startup.json").read_text())["seconds"]
    yield "serve, command until it answers, s", f"{seconds:.1f}"
    yield "", ", ".join(f"{name} {value:.1f}" for name, value in phases.items())
    yield "serve, adapter's proof", json.dumps(run.server["checks"])
    yield "serve, GPU memory before, while it answers", f"{before}, {_smi('memory.used')}"
    for _ in range(2):  # the first round warms up
        _, said = _studio("chat", "seedling", tuned.id, "temperature=0", words="Who are you?\n")
    for line in said.splitlines():
        yield "two panes", line
    started = time.monotonic()
    run.stop()
    while run.is_active:
        time.sleep(0.05)
    yield "serve, stop, s; state; GPU memory", f"{time.monotonic() - started:.1f}; {run.state}; {_smi('memory.used')}"


STAGES = {"identity": identity, "llama": llama, "merge": merge, "serve": serve}


def _train(label: str, *words: str) -> Rows:
    seconds, _ = _studio("train", *words)
    run = _newest("train")
    history, _ = events.read(run.metrics)
    steps = [event for event in history if event["type"] == "step"]
    notes = [event["text"] for event in history if event["type"] == "note"]
    losses = [step["loss"] for step in steps]
    tail = losses[-10:]
    yield f"{label}: command to adapter on disk, s", f"{seconds:.1f}, {len(steps)} steps"
    yield "", next(line for line in run.log.read_text().splitlines() if line.startswith("started in"))
    yield (
        f"{label}: tokens/s, tokens a step",
        f"{steps[-1]['tokens_per_s']:.0f}, {steps[-1]['tokens'] / len(steps):.0f}",
    )
    yield f"{label}: peak GPU memory, GB", f"{steps[-1]['memory_gb']:.2f}"
    yield f"{label}: loss, first and mean of the last ten", f"{losses[0]:.2f}, {sum(tail) / len(tail):.2f}"
    yield from ((f"{label}: note", note) for note in notes)


def _studio(*arguments: str, words: str = "") -> tuple[float, str]:
    """Seconds that `python -m studio ...` took, and what it printed."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "studio", *arguments], cwd=ROOT, input=words, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandFailed(f"{arguments}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return time.monotonic() - started, done.stdout


def _newest(kind: str, name: str = "") -> Run:
    found = [run for run in Store(FOLDER / "saves").list(kind) if name in run.id]
    if not found:
        raise CommandFailed(f"there is no {kind} run {name}: run that stage before")
    return found[0]


def _smi(field: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _print(name: str, value: str) -> None:
    print(f"{name:<58} {value}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
