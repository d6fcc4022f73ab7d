"""The front door of a worker: everything that goes wrong inside is caught here, once, and left as an error card.

Light to import: the watcher of stop requests runs before the first heavy import begins.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from studio.errors import SeedbedError
from studio.runs.process import die_with_parent
from studio.worker import cards, ranks
from studio.worker.ranks import Rank
from studio.worker.report import Reporter, say
from studio.worker.stop import STOPPED, Requests

if TYPE_CHECKING:
    from studio.worker.consensus import Consensus

COMPLETED, FAILED = 0, 1
LAST_WORDS_S = 1.0


@dataclass
class Clock:
    """Where the time goes before the first step, from the birth of the process, in seconds."""

    laps: list[tuple[str, float]] = field(default_factory=list)
    last: float = field(default_factory=lambda: psutil.Process().create_time())
    is_stopped: bool = False

    def lap(self, name: str) -> None:
        """What took place since the last lap."""
        now = time.time()
        self.laps.append((name, now - self.last))
        self.last = now

    def stop(self) -> None:
        """The first step is done."""
        self.lap("first step")
        self.is_stopped = True

    def __str__(self) -> str:
        total = sum(seconds for _, seconds in self.laps)
        return f"started in {total:.1f} s: " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.laps)


@dataclass(frozen=True)
class Desk:
    """What a worker is handed: its run directory, where to report, where requests arrive, a clock, and which of the
    run's processes it is."""

    run_dir: Path
    reporter: Reporter
    requests: Requests
    clock: Clock
    rank: Rank = field(default_factory=Rank)

    @cached_property
    def consensus(self) -> Consensus:
        """What this process agrees on with the others of its training. It takes torch to do so."""
        from studio.worker.consensus import Consensus

        return Consensus(self.rank, self.requests)


def serve(run_dir: Path, work: Callable[[Desk], bool]) -> int:
    """Do `work`, which returns whether it was stopped, and return the exit code of the process."""
    clock, rank = Clock(), Rank.of()
    if several := ranks.PARENT in os.environ:
        _join(rank, run_dir)
    reporter = Reporter(rank.desk_folder(run_dir), cards=rank.folder(run_dir) if several else None)
    requests = Requests(run_dir, last_words=lambda: _farewell(reporter), heeds=rank.is_first)
    try:
        stopped = work(Desk(run_dir, reporter, requests, clock, rank))
    except KeyboardInterrupt:
        return STOPPED
    except SeedbedError as error:
        reporter.error(cards.of(error, run_dir, reporter.phase_name))
        return FAILED
    except Exception as error:  # noqa: BLE001  # this is the front door
        requests.protect()  # waits for ever if a stop request is ending the process and took the files away
        say(traceback.format_exc())
        reporter.error(cards.of(error, run_dir, reporter.phase_name))
        return FAILED
    else:
        # of several the launcher looks at the result: one that ended in another way would have the others killed
        return STOPPED if stopped and not several else COMPLETED
    finally:
        if rank.is_first:
            shutil.rmtree(run_dir / "tmp", ignore_errors=True)  # what a failure leaves there may be a whole model
        reporter.close()


def _join(rank: Rank, run_dir: Path) -> None:
    """Be one of several processes, that all end when their launcher does. The first one's log is that of the run."""
    die_with_parent()
    if os.getppid() != int(os.environ[ranks.PARENT]):  # it has ended before that was said
        os._exit(FAILED)
    rank.folder(run_dir).mkdir(parents=True, exist_ok=True)
    if not rank.is_first:
        with open(rank.folder(run_dir) / "log.txt", "ab") as log:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())


def leave(code: int) -> None:
    """End the process now: with the outputs in place, tearing down torch would only add a second and surprises."""
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _farewell(reporter: Reporter) -> None:
    reporter.progress("stopped before there was anything to save")
    reporter.close(LAST_WORDS_S)
