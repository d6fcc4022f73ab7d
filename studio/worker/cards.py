"""Failure cards: what went wrong in a worker, what to do about it, and which options to change for another try."""

from __future__ import annotations

import signal
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
# as gloo, NCCL and the store of torch.distributed say it
CONNECTIONS = ("DistBackendError", "DistNetworkError", "DistStoreError")
BROKEN_OFF = ("gloo", "pair closure", "NCCL error", "closed by peer", "reset by peer", "Broken pipe")
TIMED_OUT = ("Timed out waiting", "timed out", "timeout")
LOST, WAITED, FORSAKEN = "PeerLost", "PeerTimeout", "Forsaken"
CONSEQUENCES = (LOST, WAITED, FORSAKEN)  # of the end of another process
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
    if type(error).__name__ in CONNECTIONS or any(words in text for words in BROKEN_OFF):
        return _disconnected(text, run_dir)
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


def killed(process: str, number: signal.Signals, out_of_memory: bool, run_dir: Path) -> Card:
    """The card of a process of several that a signal has ended, by the kernel for lack of memory or by whomever."""
    if number != signal.SIGKILL:
        return Card("Killed", f"{process} was ended by {number.name}.", "The last lines of its log say more.")
    if not out_of_memory:
        text = f"{process} was killed (SIGKILL), by a person or another program as it seems"
        return Card("Killed", f"{text}: the kernel tells of no lack of memory.", "Resume the run, or start it again.")
    config = _training(run_dir)
    relief = _relief(config) if config else None
    message = f"The machine ran out of memory and its kernel ended {process[0].lower()}{process[1:]}."
    hint = "Take fewer processes, a smaller batch or a smaller model."
    return Card("OutOfMemory", message, str(relief), relief.changes) if relief else Card("OutOfMemory", message, hint)


def node_lost(sentence: str) -> Card:
    """The card of a run that one of its machines went down with."""
    return Card("NodeLost", sentence, "Resume the run from its last checkpoint; other machines may take part.")


def waited(silent: list[str], run_dir: Path) -> Card:
    """The card of processes that have waited too long, for those that are named if any were `silent`."""
    config = _training(run_dir)
    patience = f"{config.ddp_timeout} s (ddp_timeout)" if config else "the time-out"
    if silent:
        text = f"{' and '.join(silent)} stood still; the others waited for {patience} and gave up."
        return Card(WAITED, text, "Look at that machine, its disks and devices, and resume the run.")
    text = f"The processes waited for each other in vain, for {patience}."
    return Card(WAITED, text, "If one is only slow, raise ddp_timeout; the logs below ranks/ tell what each did.")


def _disconnected(text: str, run_dir: Path) -> Card:
    if any(words in text for words in TIMED_OUT):
        return waited([], run_dir)
    why = text.splitlines()[0].rpartition("] ")[2].partition(". ")[0]
    return Card(LOST, f"The connection to another process of the training broke off: {why}", "Its own log says why.")


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
