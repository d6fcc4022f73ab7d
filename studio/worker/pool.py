"""Work on many parts of a file, here or in several processes that have a tokenizer each. Light to import."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from studio import models
from studio.worker import tokenizer as tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROCESS_BYTES = 64 << 20  # of text for each process: below that, starting another costs more than it saves
PROCESSES_MAX = 16
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tokens:
    """A tokenizer, named rather than held: every process loads its own, once."""

    folder: Path
    trust_remote_code: bool = False

    def load(self) -> PreTrainedTokenizerBase:
        """The tokenizer. Raises ModelError where there is none."""
        return _load(self)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the tokenizer or its template does."""
        return models.tokenizer_fingerprint(self.folder)


@lru_cache(maxsize=2)
def _load(tokens: Tokens) -> PreTrainedTokenizerBase:
    return tokenizers.load(tokens.folder, tokens.trust_remote_code)


def processes_for(text_bytes: int) -> int:
    """How many processes are worth their start for so much text; each tokenizer has threads for all cores besides."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(text_bytes // PROCESS_BYTES, cores, PROCESSES_MAX))


def spread(work: Callable[[Task], Result], tasks: Iterable[Task], processes: int) -> Iterator[Result]:
    """The result of `work` for every task, in order. With several processes `work` and its tasks are pickled.

    Ends the processes when it is left early; they end by themselves when this one is killed.
    """
    if processes == 1:
        yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin)
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    tokenizers.without_torch()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
