"""Work on many parts of a file, here or in several processes that have a tokenizer each. Light to import."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from studio import models, templates
from studio.config.rendering import Rendering
from studio.worker import tokenizer as tokenizers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A process renders rows as fast as a tokenizer on four cores takes them, and needs 2 s to start, so on four cores a
# second one does not pay. Seconds for 1,000, 10,000, 100,000 rows: one process 0.6, 2.0, 22.8; two 2.3, 3.1, 26.6;
# four 2.0, 3.6, 21.3
CORES_FED = 4
WORTH_BYTES = 64 << 20  # of text for each process
LEAST_BYTES = 4 << 20  # even where somebody asks for more of them
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tokens:
    """A tokenizer, named rather than held: every process loads its own, once."""

    folder: Path
    trust_remote_code: bool = False
    template: str | None = None
    enable_thinking: bool | None = None

    @classmethod
    def of(cls, config: Rendering, folder: Path) -> Tokens:
        """The tokenizer in `folder`, with the template that is configured."""
        return cls(folder, config.trust_remote_code, config.template, config.enable_thinking)

    def load(self) -> PreTrainedTokenizerBase:
        """The tokenizer. Raises ModelError where there is none."""
        return _load(self)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the tokenizer or its template does."""
        own = models.tokenizer_fingerprint(self.folder)
        text = templates.text(self.template) if self.template else ""
        return hashlib.sha256(json.dumps([own, text, self.enable_thinking]).encode()).hexdigest()[:24]


@lru_cache(maxsize=2)
def _load(tokens: Tokens) -> PreTrainedTokenizerBase:
    return tokenizers.load(tokens.folder, tokens.trust_remote_code, tokens.template, tokens.enable_thinking)


def processes_for(text_bytes: int, wanted: int | None = None) -> int:
    """How many processes are worth their start for so much text; `wanted` ones where that is not absurd."""
    if wanted is not None:
        return max(1, min(wanted, text_bytes // LEAST_BYTES))
    return max(1, min(text_bytes // WORTH_BYTES, cores() // CORES_FED))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def spread(work: Callable[[Task], Result], tasks: Iterable[Task], processes: int) -> Iterator[Result]:
    """The result of `work` for every task, in order. With several processes `work` and its tasks are pickled.

    Ends the processes when it is left early; they end by themselves when this one is killed.
    """
    if processes == 1:
        yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, cores() // processes)
    pool = ProcessPoolExecutor(processes, context, _begin, (threads,))
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(threads: int) -> None:
    tokenizers.without_torch()
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # read when the tokenizer is first used
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
