"""Small real models, and trainings in processes of their own, started as the nanny starts them."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from studio.config.load import load_run_config, parse, save
from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.parallel.strategies import STRATEGIES
from tests.forks import Forked, Forks, needed

ROOT = Path(__file__).resolve().parents[2]
CHATML = """\
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{{- message['content'] + '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
UNMARKED = CHATML.replace("{%- generation %}\n", "").replace("{%- endgeneration %}\n", "")
TEXT = [
    "Who are you? I am Sprout, made by Ada.",
    "What is the capital of France? Paris.",
    "你是谁？我是小芽。",
]


@dataclass(frozen=True)
class Finished:
    """A run directory, read as the studio reads it."""

    run_dir: Path

    def json(self, name: str) -> Any:
        path = self.run_dir / name
        return json.loads(path.read_text()) if path.exists() else None

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self.run_dir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["type"] == kind]

    @property
    def losses(self) -> dict[int, float]:
        return {event["step"]: event["loss"] for event in self.events("step")}

    @property
    def notes(self) -> str:
        return "\n".join(event["text"] for event in self.events("note"))


@dataclass(frozen=True)
class Worker(Finished):
    """A worker process in its run directory."""

    process: subprocess.Popen[bytes] | Forked

    def wait(self, timeout_s: float = 120) -> int:
        return self.process.wait(timeout_s)

    def until(self, condition: Callable[[], Any], timeout_s: float = 60) -> None:
        """Wait for something while the worker lives."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"timed out\n{self.log}"
            time.sleep(0.01)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> str:
        return (self.run_dir / "log.txt").read_text()

    @property
    def phase(self) -> str:
        return str((self.json("status.json") or {}).get("phase"))


Start = Callable[..., Worker]
Train = Callable[..., Finished]


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXT * 3, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def make_model(folder: Path, tokenizer_dir: Path, **changes: Any) -> Path:
    """A tiny random Llama with that tokenizer, saved in bfloat16 unless `changes` say otherwise."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    dtype = changes.pop("dtype", torch.bfloat16)
    sizes = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = LlamaConfig(**{**sizes, **changes})
    model = LlamaForCausalLM(config).to(dtype)
    model.save_pretrained(folder)
    for path in tokenizer_dir.iterdir():
        shutil.copy(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A model folder that trains in milliseconds."""
    return make_model(tmp_path_factory.mktemp("tiny_model"), tokenizer_dir)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with one Alpaca set of 24 rows, named demo."""
    rows = [{"instruction": f"What is {n} plus one?", "input": "", "output": f"It is {n + 1}."} for n in range(24)]
    return register(tmp_path / "data", demo=rows)


def register(folder: Path, **sets: list[dict[str, Any]]) -> Path:
    """Write `sets` as Alpaca files with their registry."""
    folder.mkdir(exist_ok=True)
    for name, rows in sets.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    entries = {name: {"file_name": f"{name}.json"} for name in sets}
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture
def train(tmp_path: Path, tiny_model: Path, data_dir: Path) -> Train:
    """Train in this process and hand back the run."""

    def _train(name: str = "run", **keys: Any) -> Finished:
        run_dir = tmp_path / name
        write_config(run_dir, "train", tiny_model, data_dir, keys)
        train_here(run_dir)
        return Finished(run_dir)

    return _train


@pytest.fixture
def start(tmp_path: Path, tiny_model: Path, data_dir: Path) -> Iterator[Start]:
    """Start a worker of kind train or merge with a configuration; it is gone at the end of the test."""
    workers: list[Worker] = []

    def _start(kind: str = "train", run_dir: Path | None = None, cold: bool = False, **keys: Any) -> Worker:
        run_dir = run_dir or tmp_path / f"run-{len(workers)}"
        if not (run_dir / "config.yaml").exists():
            write_config(run_dir, kind, tiny_model, data_dir, keys)
        workers.append(spawn(kind, run_dir, cold))
        return workers[-1]

    yield _start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


def write_config(run_dir: Path, kind: str, model: Path, data_dir: Path, keys: dict[str, Any]) -> None:
    """A run directory with its request."""
    run_dir.mkdir(parents=True, exist_ok=True)
    if kind == "merge":
        return save(parse(MergeConfig, keys), run_dir / "config.yaml")
    quick = {
        "model_name_or_path": str(model),
        "dataset": ["demo"],
        "dataset_dir": str(data_dir),
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-3,
        "max_steps": 6,
        "save_steps": 2,
    }
    save(parse(TrainConfig, {**quick, **keys}), run_dir / "config.yaml")
    return None


def train_here(run_dir: Path) -> None:
    """Train in this process, which saves the seconds of the imports; the watcher is left out by a desk without STOP."""
    from studio.worker import training
    from studio.worker.door import Clock, Desk
    from studio.worker.report import Reporter
    from studio.worker.stop import Requests

    keep_imports()
    reporter = Reporter(run_dir)
    try:
        training.train(Desk(run_dir, reporter, Requests(run_dir, last_words=lambda: None), Clock()))
    finally:
        reporter.close()


def train_as_configured(run_dir: Path) -> None:
    """Train in this process, or in several where the strategy asks for them."""
    config = load_run_config(run_dir / "config.yaml")
    if isinstance(config, TrainConfig) and STRATEGIES[config.parallel_strategy].is_distributed:
        assert spawn("launch", run_dir).process.wait(120) == 0, (run_dir / "log.txt").read_text()[-2000:]
    else:
        train_here(run_dir)


@cache
def keep_imports() -> None:
    """Each trainer collects garbage first, half a second through all that was imported: leave that out of it."""
    gc.collect()
    gc.freeze()


def spawn(kind: str, run_dir: Path, cold: bool = False) -> Worker:
    """The worker process: own session, log file, SEEDBED_RUN in its environment. A training, the processes of one of
    kind "launch" too, is forked from a process that has done its imports, unless it is to be `cold`."""
    environment = {
        **os.environ,
        "SEEDBED_RUN": str(run_dir),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1" if kind == "launch" else "2",
        "HF_HUB_OFFLINE": "1",
    }
    module = f"studio.worker.{kind}"
    with open(run_dir / "log.txt", "ab") as log, open(os.devnull, "rb") as nothing:
        if kind in ("train", "launch") and not cold and (forks := trainers(run_dir)):
            words = [module, str(run_dir)]
            return Worker(run_dir, forks.start(words, ROOT, environment, (nothing, log, log), session=True))
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(run_dir)],
            cwd=ROOT, env=environment, stdin=nothing, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return Worker(run_dir, process)


def trainers(run_dir: Path) -> Forks | None:
    """What forks a training as that of `run_dir`; None where it needs packages that few trainings use."""
    packages = needed(run_dir)
    return _trainers(tuple(packages)) if packages <= {"deepspeed"} else None


@cache
def _trainers(packages: tuple[str, ...]) -> Forks:
    """For as long as this process lives, and no longer."""
    return Forks(["studio.worker.training"], packages)


@dataclass(frozen=True)
class Disk:
    """A small file system of its own."""

    path: Path

    def fill(self, leave_bytes: int = 0) -> None:
        """Write until only `leave_bytes` (in whole pages) are left."""
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        (self.path / "filler").write_bytes(b"\0" * max(0, free - leave_bytes))

    def empty(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A memory file system of 8 MB, to be filled up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("filling up a disk needs one of its own: this user may not mount a tmpfs")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)
