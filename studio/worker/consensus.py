"""What the processes of a training agree on: when to stop, when to save, and whether something was done by all.

The first process hears the requests. Its word reaches all others at the same step, over a group of gloo's beside that
of the gradients: tensors on the CPU, so that no GPU is waited for. What each step needs is sent as its computation
begins and read when it ends. A process that trains alone agrees with itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import torch
from torch import distributed

from studio.errors import ParallelError
from studio.worker.outputs import DiskFull
from studio.worker.ranks import Rank
from studio.worker.stop import Requests

PATIENCE = timedelta(hours=2)  # with one that does something for all, such as writing a large model
DONE, FULL, FAILED = 0, 1, 2
Words: TypeAlias = tuple[float, float, float, float]  # whether to stop, whether to save, tokens, memory in GB


class Forsaken(ParallelError):
    """Another process of the training failed in what all were to do; its own card says why."""


class Consensus:
    """Of one process with the others of its training. Every method is called by all of them, in the same order, and but
    for `together` and `most` at about the same time.

    `memory_gb`: what each process takes, by rank.
    """

    def __init__(self, rank: Rank, requests: Requests) -> None:
        self.memory_gb: tuple[float, ...] = ()
        self._rank, self._requests = rank, requests
        self._group: Any = None
        self._patient: Any = None  # for what takes some of them long
        self._told_to_stop = self._told_to_save = False
        self._pending: Any = None
        self._words = _words(rank.world)
        self._own: Words = (0.0, 0.0, 0.0, 0.0)

    def join(self, patience_s: float) -> None:
        """Make the groups, once the processes have found each other. A wait of `patience_s` seconds for another process
        is an error of gloo's."""
        if self._rank.world > 1:
            patience = timedelta(seconds=patience_s)
            self._group = distributed.new_group(backend="gloo", timeout=patience)
            self._patient = distributed.new_group(backend="gloo", timeout=max(patience, PATIENCE))

    @property
    def stop(self) -> bool:
        """Whether all are to stop; alone, that is known at once."""
        return self._told_to_stop if self._group else self._requests.stop

    def begin(self, tokens: int, memory_gb: float) -> None:
        """Send what this process knows: `tokens` since the last time, and the memory that it takes."""
        is_first = self._rank.is_first
        stop, save = is_first and self._requests.stop, is_first and self._requests.take_save()
        self._own = (float(stop), float(save), float(tokens), memory_gb)
        if self._group:
            own = torch.tensor(self._own, dtype=torch.float64)
            self._words = _words(self._rank.world)
            self._pending = distributed.all_gather(list(self._words), own, group=self._group, async_op=True)

    def end(self) -> int:
        """Learn what all have sent; the tokens that they sent together."""
        if self._pending:
            self._pending.wait()
            self._pending = None
        words = self._words.tolist() if self._group else [self._own]
        stops, saves, tokens, memory_gb = zip(*words, strict=True)
        self._told_to_stop |= any(stops)
        self._told_to_save |= any(saves)
        self.memory_gb = memory_gb
        return int(sum(tokens))

    def take_save(self) -> bool:
        """Whether a checkpoint has been asked for since the last call."""
        asked, self._told_to_save = self._told_to_save, False
        return asked

    def heed(self, own: bool | None = None) -> bool:
        """Whether all are to stop, asked right now: of the first process, or, if each says what it knows, of all."""
        if self._group:
            asked = self._rank.is_first and self._requests.stop if own is None else own
            self._told_to_stop |= self.any(asked)
        return self.stop

    def any(self, own: bool) -> bool:
        """Whether it is so for one of all."""
        return bool(self._largest(int(own)))

    def most(self, own: int) -> int:
        """The largest number that one of all has, which may take some of them long to find."""
        return self._largest(own, self._patient)

    @contextmanager
    def together(self) -> Iterator[None]:
        """All leave this in the same way, and wait for each other for hours.

        Raises:
            DiskFull: the room was too small for this process or another.
            Forsaken: another process failed in here, this one did not.
        """
        try:
            yield
        except DiskFull:
            self._largest(FULL, self._patient)
            raise
        except BaseException:
            self._largest(FAILED, self._patient)
            raise
        worst = self._largest(DONE, self._patient)
        if worst == FULL:
            raise DiskFull("another process of the training had no room to write: free some disk space")
        if worst == FAILED:
            raise Forsaken("another process of the training failed; its own log says why")

    def _largest(self, own: int, group: Any = None) -> int:
        if not self._group:
            return own
        word = torch.tensor([own], dtype=torch.int32)
        distributed.all_reduce(word, distributed.ReduceOp.MAX, group=group or self._group)
        return int(word)


def _words(world: int) -> torch.Tensor:
    """The Words of each process, in rows."""
    return torch.zeros(world, 4, dtype=torch.float64)
