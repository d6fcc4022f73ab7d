"""Memory that trainings take on a CUDA device beside what the plan says they will. Prints one table.

    python -m bench.memory [WORD ...]       # only configurations whose name has every WORD

Models of random weights are made on the device in the shapes of known ones. Each configuration is trained for three
steps by the worker itself, in a process of its own; as many run at once as fit beside each other, which their peaks do
not notice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.config.load import parse, save
from studio.config.train import TrainConfig
from studio.config.train.precision import DEALT
from studio.machine import GB, look
from studio.planning import shape
from studio.planning.batch import Lengths
from studio.planning.memory import Memory
from studio.planning.passes import course
from studio.settings import ASSETS, ROOT

ROOM_GB = 70.0  # of an 80 GB device
AT_ONCE = 4
STEPS = 3
LONGEST = 8192
PROMPT_TOKENS = 24
ROWS = 48
PATIENCE_S = 240
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "1.1B": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32_000, "tie_word_embeddings": False,
    },
    "1.7B": {
        "model_type": "qwen3", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "3B": {
        "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
        "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
    },
    "8B": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False,
    },
}  # fmt: skip
FULL = {"finetuning_type": "full", "learning_rate": 1e-6}
QLORA = {"quantization_bit": 4}
GRPO = {"stage": "grpo", "reward_funcs": "length", "num_generations": 8, "max_completion_length": 256}
DATASETS = {"dpo": "pairs", "rm": "pairs", "kto": "judged"}
# name of the shape, rows x tokens of a batch, gradient checkpointing, the rest
TRAININGS: list[tuple[str, int, int, bool, dict[str, Any]]] = [
    ("8B", 1, 1024, False, {}),
    ("8B", 2, 2048, True, {}),
    ("8B", 1, 2048, False, QLORA),
    ("8B", 4, 2048, True, QLORA),
    ("3B", 1, 1024, True, FULL),
    ("3B", 2, 2048, False, {}),
    ("3B", 4, 2048, True, {}),
    ("3B", 2, 2048, False, QLORA),
    ("0.5B", 4, 512, False, FULL),
    ("0.5B", 2, 2048, True, FULL),
    ("0.5B", 8, 1024, False, {}),
    ("1.1B", 2, 1024, False, FULL),
    ("1.1B", 4, 512, True, {**FULL, "optim": "adamw_8bit"}),
    ("1.1B", 16, 256, False, {}),
    ("1.1B", 1, 8192, True, {}),
    ("1.1B", 1, 4096, False, {}),
    ("1.7B", 4, 1024, False, {"lora_rank": 64, "lora_dropout": 0.05}),
    ("1.1B", 2, 1024, False, {**FULL, "finetuning_type": "freeze", "freeze_trainable_layers": 4}),
    ("1.1B", 2, 1024, False, {**FULL, "pure_bf16": True}),
    ("1.1B", 2, 1024, False, {"stage": "dpo"}),
    ("1.1B", 1, 1024, False, {**FULL, "stage": "dpo"}),
    ("1.1B", 2, 1024, False, {"stage": "dpo", "pref_loss": "orpo"}),
    ("1.1B", 2, 1024, False, {"stage": "kto"}),
    ("1.1B", 2, 1024, False, {"stage": "rm"}),
    ("1.1B", 8, 256, False, GRPO),
    ("0.5B", 2, 1024, False, {"label_smoothing_factor": 0.1}),
    ("0.5B", 2, 1024, False, {"z_loss_coef": 1e-4}),
    ("1.1B", 2, 2048, False, {"packing": True}),
    ("8B", 2, 1024, True, {"quantization_bit": 8}),
    ("1.1B", 4, 1024, False, {"quantization_bit": 8}),
    ("1.1B", 2, 1024, False, {"use_dora": True}),
]


@dataclass(frozen=True)
class Training:
    """One configuration to be measured, and what the plan says it needs."""

    name: str
    model: str
    config: TrainConfig
    expected: Memory


@dataclass
class Trial:
    """A training under way in a process of its own."""

    training: Training
    run_dir: Path
    process: subprocess.Popen[bytes]
    started: float


def main(words: list[str]) -> int:
    """Measure; the number of configurations that could not be."""
    if not shutil.which("nvidia-smi"):
        print("no CUDA device: nothing measured")
        return 0
    home = Path(tempfile.mkdtemp(prefix="memory-", dir=_place()))
    try:
        data = _make_data(home / "data")
        chosen = [each for each in TRAININGS if all(word in name_of(each).split() for word in words)]
        models = _make_models(home, {each[0] for each in chosen})
        trainings = [_training(each, models, data) for each in chosen]
        return _measure(home, trainings)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _place() -> Path:
    """Memory, if there is enough: weights are written and read in seconds."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 48 * GB:
        return memory
    folder = ROOT / "bench" / "output"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def name_of(each: tuple[str, int, int, bool, dict[str, Any]]) -> str:
    model, rows, tokens, checkpointing, keys = each
    bits = f"{keys['quantization_bit']}-bit" if "quantization_bit" in keys else ""
    method = keys.get("finetuning_type", "lora")
    told = ("finetuning_type", "learning_rate", "quantization_bit")
    rest = [f"{key}={value}" for key, value in keys.items() if key not in told]
    words = [model, method, bits, f"{rows}x{tokens}", "checkpointing" if checkpointing else "", *rest]
    return " ".join(word for word in words if word)


def _training(each: tuple[str, int, int, bool, dict[str, Any]], models: dict[str, Path], data: Path) -> Training:
    model, rows, tokens, checkpointing, keys = each
    values = {
        "model_name_or_path": str(models[model]),
        "dataset_dir": str(data),
        "dataset": DATASETS.get(keys.get("stage", "sft"), "rows"),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": 2,
        "cutoff_len": tokens,
        "gradient_checkpointing": "on" if checkpointing else "off",
        "max_steps": STEPS,
        "save_steps": 0,
    }
    if keys.get("stage", "sft") in DEALT:  # else they would take what others leave them
        values["micro_batch_tokens"] = rows * tokens * (2 if "stage" in keys else 1)
    config = parse(TrainConfig, {**values, **keys})
    planned = course(config, shape.read(models[model]), lengths_of(tokens, keys), look(data))
    return Training(name_of(each), model, config, planned.memory)


def lengths_of(tokens: int, keys: dict[str, Any]) -> Lengths:
    """Those of its rows: as long as the cutoff, but only prompts go into an online stage."""
    length = PROMPT_TOKENS if keys.get("stage") == "grpo" else tokens
    return Lengths(length, length)


def _measure(home: Path, trainings: list[Training]) -> int:
    print(f"{'configuration':<66} {'plan':>6} {'peak':>6} {'error':>7}   {'with context':>12} {'reserved':>8}")
    waiting, running, errors, broken = list(enumerate(trainings)), [], [], 0
    waiting.sort(key=lambda each: -each[1].expected.total_gb)
    while waiting or running:
        for item in [each for each in waiting if _has_room(running, each[1])][:1]:
            waiting.remove(item)
            running.append(_start(home / f"run-{item[0]}", item[1]))
        for trial in [each for each in running if _is_over(each)]:
            running.remove(trial)
            error = _tell(trial)
            broken += error is None
            errors += [error] if error is not None else []
            shutil.rmtree(trial.run_dir, ignore_errors=True)
        time.sleep(0.1)
    if errors:
        mean, worst = sum(map(abs, errors)) / len(errors), max(errors, key=abs)
        print(f"{len(errors)} measured: mean error {mean:.1%}, worst {worst:+.1%}; {broken} broken")
    return broken


def _has_room(running: list[Trial], training: Training) -> bool:
    taken = sum(trial.training.expected.total_gb for trial in running)
    return not running or (len(running) < AT_ONCE and 1.15 * (taken + training.expected.total_gb) < ROOM_GB)


def _start(run_dir: Path, training: Training) -> Trial:
    run_dir.mkdir()
    save(training.config, run_dir / "config.yaml")
    return Trial(training, run_dir, _child(run_dir, "train", run_dir), time.monotonic())


def _child(folder: Path, task: str, *words: object) -> subprocess.Popen[bytes]:
    """This module again, doing one `task`; what it prints is in log.txt of `folder`."""
    command = [sys.executable, "-m", "bench.memory", "--child", task, *map(str, words)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "4"}
    folder.mkdir(exist_ok=True)
    with open(folder / "log.txt", "wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )


def _said(folder: Path, lines: int) -> str:
    return " | ".join((folder / "log.txt").read_text(errors="replace").strip().splitlines()[-lines:])[-700:]


def _is_over(trial: Trial) -> bool:
    if trial.process.poll() is None and time.monotonic() - trial.started > PATIENCE_S:
        trial.process.kill()
    return trial.process.poll() is not None


def _tell(trial: Trial) -> float | None:
    """Print a line; the error of the plan, None where nothing could be measured."""
    expected, peak = trial.training.expected, trial.run_dir / "peak.json"
    if not peak.exists():
        print(f"{trial.training.name:<66} FAILED: {_said(trial.run_dir, 4)}", flush=True)
        return None
    found = json.loads(peak.read_text())
    error = expected.tensors_gb / found["allocated"] - 1
    print(
        f"{trial.training.name:<66} {expected.tensors_gb:6.2f} {found['allocated']:6.2f} {error:+7.1%}   "
        f"{expected.total_gb:12.2f} {found['reserved']:8.2f}   {_parts(expected)}, "
        f"{found['tokens']} tokens a batch, {time.monotonic() - trial.started:.0f} s",
        flush=True,
    )
    return error


def _parts(memory: Memory) -> str:
    named = ("weights", "gradients", "optimizer", "activations", "logits", "reference")
    return ", ".join(f"{name} {getattr(memory, name):.2f}" for name in named)


def _make_data(folder: Path) -> Path:
    """Rows that every cutoff cuts, and pairs of answers as long."""
    folder.mkdir(parents=True)
    words = (
        "seed",
        "water",
        "light",
        "root",
        "leaf",
        "stone",
        "river",
        "wind",
        "a",
        "the",
        "of",
        "and",
        "grows",
        "falls",
    )
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(words, k=LONGEST))

    rows = [{"instruction": f"Tell story {number}.", "input": "", "output": text()} for number in range(ROWS)]
    pairs = [
        {"instruction": f"Tell {number}.", "input": "", "chosen": text(), "rejected": text()} for number in range(ROWS)
    ]
    judged = [{**row, "good": number % 2 == 0} for number, row in enumerate(rows)]
    (folder / "judged.json").write_text(json.dumps(judged))
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "pairs.json").write_text(json.dumps(pairs))
    columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
    entries = {
        "rows": {"file_name": "rows.json"},
        "judged": {"file_name": "judged.json", "columns": {"kto_tag": "good"}},
        "pairs": {"file_name": "pairs.json", "ranking": True, "columns": columns},
    }
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder


def _make_models(home: Path, names: set[str]) -> dict[str, Path]:
    started = time.monotonic()
    _child(home / "context", "context").wait(timeout=PATIENCE_S)
    makers = {name: _child(home / name, "make", name, home / name) for name in sorted(names)}
    for name, maker in makers.items():
        if maker.wait(timeout=PATIENCE_S):
            raise SystemExit(f"{name} could not be made: {_said(home / name, 20)}")
    print(_said(home / "context", 1))
    print(f"models made in {time.monotonic() - started:.0f} s", flush=True)
    return {name: home / name for name in names}


def _make(name: str, folder: Path) -> None:
    # imported here: the parent needs no torch
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    keys = dict(SHAPES[name])
    tokens = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(keys.pop("model_type"), max_position_embeddings=16_384, **keys, **tokens)
    torch.manual_seed(0)
    torch.set_default_device("cuda")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for path in (ASSETS / "seedling").iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(path, folder / path.name)


def _train(run_dir: Path) -> None:
    """Train in this process and leave the peaks in peak.json, in GB; nothing if the training failed."""
    from studio.runs import events
    from studio.worker import train

    if train.main(run_dir):
        return
    import torch

    history, _ = events.read(run_dir / "metrics.jsonl")
    steps = [event for event in history if event["type"] == "step"]
    peaks = {
        "allocated": torch.cuda.max_memory_allocated() / GB,
        "reserved": torch.cuda.max_memory_reserved() / GB,
        "tokens": steps[-1]["tokens"] // (STEPS * 2),
    }
    (run_dir / "peak.json").write_text(json.dumps(peaks))


def _context() -> None:
    """Print what a process takes on a device that nobody else uses, beyond its tensors."""
    import torch

    factor = torch.ones(4096, 4096, device="cuda", dtype=torch.bfloat16)
    (factor @ factor).sum().item()
    free, total = torch.cuda.mem_get_info()
    print(f"CUDA context {(total - free - torch.cuda.memory_reserved()) / GB:.2f} GB of {total / GB:.1f}")


CHILDREN = {
    "context": _context,
    "make": lambda name, folder: _make(name, Path(folder)),
    "train": lambda folder: _train(Path(folder)),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](*sys.argv[3:])
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
