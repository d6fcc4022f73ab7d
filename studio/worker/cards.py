"""Failure cards: what went wrong in a worker, what to do about it, and which options to change for another try."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import ConfigError, DatasetError, SeedbedError
from studio.worker.outputs import FULL

if TYPE_CHECKING:
    from studio.config.train import TrainConfig
    from studio.planning.relief import Relief

# as torch, CUDA's libraries and the allocator of a CPU say it
NO_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
NO_SUCH_TOKEN = ("index out of range in self", "device-side assert")
READING = ("loading data", "tokenising")
USUAL_RATE = {"lora": 2e-4, "full": 2e-5}


@dataclass(frozen=True)
class Card:
    """What error.json says. `retry` are options that another try should have; empty where a person has to choose."""

    kind: str
    message: str
    hint: str = ""
    retry: dict[str, Any] = field(default_factory=dict)


def of(error: Exception, run_dir: Path, phase: str) -> Card:
    """The card of an error that ended the work in `run_dir` during `phase`."""
    text = str(error) or type(error).__name__
    if isinstance(error, SeedbedError):
        return _foreseen(error, text, run_dir)
    if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
        return _out_of_memory(text, run_dir, phase)
    if isinstance(error, OSError) and error.errno in FULL:
        return _disk_full(f"no room to write {error.filename or run_dir}", run_dir)
    if any(words in text for words in NO_SUCH_TOKEN):
        return _mismatch("the tokenizer gives a token that the model does not know", run_dir)
    return Card(type(error).__name__, text, "The log has the details.")


def _foreseen(error: SeedbedError, text: str, run_dir: Path) -> Card:
    kind = type(error).__name__
    make = FORESEEN.get(kind)
    if make:
        return make(error, text, run_dir)
    if isinstance(error, DatasetError):
        return Card(kind, text, "The Datasets tab shows the rows under Checks and can repair them.")
    return Card(kind, text)


def _out_of_memory(text: str, run_dir: Path, phase: str) -> Card:
    config, why = _training(run_dir), text.splitlines()[0]
    if phase in READING:
        alone = config is None or config.preprocessing_num_workers == 1
        hint = "Reading the rows took all memory: set preprocessing_num_workers: 1, or max_samples."
        return Card("OutOfMemory", f"Memory ran out. {why}", hint, {} if alone else {"preprocessing_num_workers": 1})
    message, relief = f"A batch does not fit into memory. {why}", _relief(config) if config else None
    if relief is None:
        return Card("OutOfMemory", message, "Choose a smaller model, or a machine with more memory.")
    return Card("OutOfMemory", message, str(relief), relief.changes)


def _relief(config: TrainConfig) -> Relief | None:
    """None also where there is not even the memory to think of one."""
    with suppress(MemoryError, OSError):
        from studio.datasets.registry import Registry
        from studio.planning.relief import relief
        from studio.worker.needs import own_machine

        return relief(config, Registry(Path(config.dataset_dir)), own_machine())
    return None


def _diverged(error: SeedbedError, text: str, run_dir: Path) -> Card:
    config = _training(run_dir)
    if config is None:
        return Card(type(error).__name__, text)
    if config.fp16:
        return Card(type(error).__name__, text, retry={"fp16": False, "bf16": True})
    from studio.planning.advice import changed

    slower = {"learning_rate": _usual(config, config.learning_rate / 10)}
    warmer = {**slower, "warmup_ratio": 0.05}
    warms_up = config.warmup_steps or config.warmup_ratio or changed(config, warmer) is None
    return Card(type(error).__name__, text, retry=slower if warms_up else warmer)


def _usual(config: TrainConfig, rate: float) -> float:
    """`rate`, or what trainings of this kind usually take if that is less."""
    return min(float(f"{rate:.2g}"), USUAL_RATE.get(config.finetuning_type, USUAL_RATE["full"]))


def _loss_zero(error: SeedbedError, text: str, run_dir: Path) -> Card:
    config = _training(run_dir)
    retry = {"fp16": False, "bf16": True} if config and config.fp16 else {}
    return Card(type(error).__name__, text, retry=retry)


def _disk_full(text: str, run_dir: Path) -> Card:
    config = _training(run_dir)
    if config is None or not config.save_steps:
        return Card("DiskFull", text, "Delete runs that you do not need, or set the saves folder on a larger disk.")
    fewer = {"save_total_limit": 1} if config.save_total_limit > 1 else {"save_steps": 0}
    [(key, value)] = fewer.items()
    return Card(
        "DiskFull", text, f"Delete runs that you do not need, or keep fewer checkpoints: {key}: {value}.", fewer
    )


def _mismatch(text: str, run_dir: Path) -> Card:
    hint = "Take the model's own tokenizer, or let the model grow to this one: resize_vocab: true."
    return Card("TokenizerMismatch", text, hint, {"resize_vocab": True} if _training(run_dir) else {})


FORESEEN: dict[str, Callable[[SeedbedError, str, Path], Card]] = {
    "Diverged": _diverged,
    "LossZero": _loss_zero,
    "DiskFull": lambda _, text, run_dir: _disk_full(text, run_dir),
    "TokenizerMismatch": lambda _, text, run_dir: _mismatch(text, run_dir),
}


def _training(run_dir: Path) -> TrainConfig | None:
    """The configuration, if it is one of a training and can be read."""
    from studio.config.load import load_run_config
    from studio.config.train import TrainConfig

    try:
        config = load_run_config(run_dir / "config.yaml")
    except ConfigError:
        return None
    return config if isinstance(config, TrainConfig) else None
