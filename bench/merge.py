"""The merge of a LoRA of rank 16 on all linear layers of a 1.5 B model in bfloat16, beside copying its file.

Model and adapter are generated (the shapes of Qwen2.5-1.5B). Before each run the files that it reads are dropped from
the page cache, and the time ends when what was written has reached the disk; copy and merge take turns. PEFT, measured
once, does merge_and_unload in bfloat16 and save_pretrained. Needs 10 GB of disk for temporary files and 6 GB of memory.

    python -m bench.merge [ROUNDS]
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from studio.config.load import parse
from studio.config.merge import MergeConfig
from studio.files import write_json
from studio.runs.store import Store
from studio.settings import ASSETS, ROOT

HIDDEN, INNER, LAYERS, VOCABULARY, SHARED, RANK = 1536, 8960, 28, 151_936, 256, 16
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (SHARED, HIDDEN),
    "self_attn.v_proj": (SHARED, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
    "tie_word_embeddings": True, "dtype": "bfloat16",
}  # fmt: skip
BLOCK = 1 << 22
PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
PeftModel.from_pretrained(model, sys.argv[2]).merge_and_unload().save_pretrained(sys.argv[3])
"""


@dataclass(frozen=True)
class Measured:
    """Seconds from the start of the process until all is on the disk; `writing_s` of them by the merge itself.

    `peak_bytes` is the most memory that the process held, 0 where it is of no interest.
    """

    seconds: float
    peak_bytes: int
    writing_s: float = 0.0


def main(rounds: int) -> None:
    """Generate, take turns, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, adapter = _make_base(folder / "base"), _make_adapter(folder / "adapter", folder / "base")
        read, target = [base, adapter], folder / "out"
        ways = {"cp": lambda: _copy(base, target), "merge": lambda: _merge(adapter, target)}
        found = _take_turns(ways, read, target, rounds)
        found |= _take_turns({"PEFT": lambda: _peft(base, adapter, target)}, read, target, 1)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {rounds} rounds")
        for line in _rows(found):
            print(line)


def _take_turns(
    ways: dict[str, Callable[[], Measured]], read: list[Path], target: Path, rounds: int
) -> dict[str, list[Measured]]:
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            shutil.rmtree(target, ignore_errors=True)
            os.sync()
            _forget(read)
            target.mkdir()
            found[name].append(way())
    return found


def _rows(found: dict[str, list[Measured]]) -> Iterator[str]:
    yield f"{'':<44}{'median':>10}{'all rounds':>28}{'/ cp':>8}{'peak':>10}"
    copies = [run.seconds for run in found["cp"]]
    for name, runs in found.items():
        yield _row(name, [run.seconds for run in runs], copies, max(run.peak_bytes for run in runs))
    alone = [run.writing_s for run in found["merge"]]
    yield _row("merge, without the start of its process", alone, copies, 0)


def _row(name: str, seconds: list[float], copies: list[float], peak_bytes: int) -> str:
    """The ratio is the median of the pairs, each measured one after the other; of PEFT it is that to all copies."""
    pairs = zip(seconds, copies if len(copies) == len(seconds) else [statistics.median(copies)], strict=True)
    ratio = statistics.median(mine / copy for mine, copy in pairs)
    every = " ".join(f"{each:.1f}" for each in seconds)
    peak = f"{peak_bytes / 1e6:.0f} MB" if peak_bytes else ""
    return f"{name:<44}{statistics.median(seconds):>8.1f} s{every:>28}{ratio:>8.2f}{peak:>10}"


def _copy(base: Path, target: Path) -> Measured:
    return Measured(_timed(["cp", str(base / "model.safetensors"), str(target)], target).seconds, 0)


def _peft(base: Path, adapter: Path, target: Path) -> Measured:
    return _timed([sys.executable, "-c", PEFT, str(base), str(adapter), str(target)], target)


def _merge(adapter: Path, target: Path) -> Measured:
    run = Store(target).create(parse(MergeConfig, {"adapter_name_or_path": str(adapter), "verify": False}))
    measured = _timed([sys.executable, "-m", "studio.worker.merge", str(run.path)], target)
    written: dict[str, Any] = json.loads((run.path / "report.json").read_text())["facts"]["written"]
    return Measured(measured.seconds, written["peak_bytes"], sum(written["seconds"].values()))


def _timed(command: list[str], target: Path) -> Measured:
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:3]} ended with status {status}")
    for path in target.rglob("*.safetensors"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    return Measured(time.monotonic() - started, usage.ru_maxrss * 1024)


def _forget(folders: list[Path]) -> None:
    """Drop files from the page cache; they must have reached the disk."""
    for path in (path for folder in folders for path in folder.iterdir()):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _make_base(folder: Path) -> Path:
    folder.mkdir()
    write_json(folder / "config.json", CONFIG)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ASSETS / "seedling" / name, folder)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in _shapes():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    numbers = np.random.default_rng(0).standard_normal(BLOCK, np.float32) * 0.02
    block = (numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes()  # bfloat16 is the upper half of float32
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, len(block)):
            file.write(block[: end - start])
    return folder


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        for name, shape in LINEAR.items():
            yield f"model.layers.{layer}.{name}.weight", shape
            if name[-6] in "qkv" and "attn" in name:
                yield f"model.layers.{layer}.{name}.bias", shape[:1]
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{name}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)


def _make_adapter(folder: Path, base: Path) -> Path:
    folder.mkdir()
    modules = [name.rpartition(".")[2] for name in LINEAR]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 32, "target_modules": modules}
    write_json(folder / "adapter_config.json", {**config, "base_model_name_or_path": str(base)})
    chance = np.random.default_rng(1)
    weights = {}
    for module, (lines, columns) in (
        (f"{layer}.{name}", size) for layer in range(LAYERS) for name, size in LINEAR.items()
    ):
        prefix = f"base_model.model.model.layers.{module}"
        weights[f"{prefix}.lora_A.weight"] = 0.01 * chance.standard_normal((RANK, columns), np.float32)
        weights[f"{prefix}.lora_B.weight"] = 0.01 * chance.standard_normal((lines, RANK), np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
