"""The only place that writes the files of a run: status, metrics, error card, result.

One writer thread does all of it, so that neither a slow nor a full disk slows a training step. What cannot be
written stays in memory and is tried again. Nothing is lost at exit if `close` is called.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from studio.files import write_json
from studio.runs import events
from studio.runs.events import Event, Note
from studio.worker.cards import Card

HEARTBEAT_S = 4.0
STATUS_INTERVAL_S = 0.2
RETRY_S = 0.5
CLOSE_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Status:
    """What status.json says; `eta_s` in seconds, `at` in unix seconds (0: not written yet)."""

    phase: str
    step: int = 0
    total_steps: int = 0
    message: str = ""
    eta_s: float | None = None
    at: float = 0.0


class Reporter:
    """Writes what happens in one run directory. All methods return at once and may be called from any thread.

    `cards` is where an error card is left, if elsewhere: which of several processes speaks for the run is told later.
    """

    def __init__(self, run_dir: Path, cards: Path | None = None) -> None:
        self.run_dir = run_dir
        self._cards = cards or run_dir
        self._status = Status("starting")
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._dirty = True
        self._closing = False
        self._complained = False
        self._thread = threading.Thread(target=self._write_all, name="reporter", daemon=True)
        self._thread.start()

    @property
    def phase_name(self) -> str:
        """The phase that the work is in."""
        return self._status.phase

    def phase(self, name: str, message: str = "") -> None:
        """A new phase begins."""
        say(f"[{name}] {message}".rstrip())
        self._update(replace(self._status, phase=name, message=message, eta_s=None))

    def progress(self, message: str) -> None:
        """How far the current phase is, for example "tokenising 300/1000"."""
        self._update(replace(self._status, message=message))

    def step(self, step: int, total_steps: int, eta_s: float | None, message: str = "") -> None:
        """How far the training is."""
        self._update(replace(self._status, step=step, total_steps=total_steps, eta_s=eta_s, message=message))

    def event(self, event: Event) -> None:
        """Append one event to metrics.jsonl."""
        with self._changed:
            self._events.append(event)
            self._changed.notify()

    def note(self, level: Literal["info", "warning"], text: str) -> None:
        """Tell the user something that needs no answer."""
        say(f"{level}: {text}")
        self.event(Note(level=level, text=text, at=time.time()))

    def error(self, card: Card) -> None:
        """Leave the error card."""
        say(f"error: {card.message} {card.hint}".rstrip())
        self._insist(self._cards / "error.json", {**asdict(card), "at": time.time()})

    def result(self, **figures: Any) -> None:
        """Leave the final figures. Call it last: a run that has a result has all its outputs."""
        self._insist(self.run_dir / "result.json", figures)

    def close(self, patience_s: float = CLOSE_PATIENCE_S) -> None:
        """Everything said so far is on disk when this returns, or the disk has been full all that time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience_s)

    def _update(self, status: Status) -> None:
        with self._changed:
            self._status = status
            self._dirty = True
            self._changed.notify()

    def _write_all(self) -> None:
        last = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._closing, timeout=STATUS_INTERVAL_S)
                closing = self._closing
            wrote = self._write_events()
            if closing or self._is_status_due(last):
                last = time.monotonic()
                wrote = self._write_status() and wrote
            if closing and wrote:
                return
            if not wrote:
                time.sleep(RETRY_S)

    def _is_status_due(self, last: float) -> bool:
        return time.monotonic() - last >= (STATUS_INTERVAL_S if self._dirty else HEARTBEAT_S)

    def _write_events(self) -> bool:
        while self._events:
            try:
                _append(self.run_dir / "metrics.jsonl", self._events[0])
            except OSError as error:
                return self._complain(error)
            self._events.popleft()
        self._complained = False
        return True

    def _write_status(self) -> bool:
        self._dirty = False
        try:
            write_json(self.run_dir / "status.json", asdict(replace(self._status, at=time.time())))
        except OSError as error:
            self._dirty = True
            return self._complain(error)
        return True

    def _complain(self, error: OSError) -> bool:
        if not self._complained:
            print(
                f"warning: {error}; the run goes on and its metrics are written once there is room",
                flush=True,
            )
        self._complained = True
        return False

    def _insist(self, path: Path, value: dict[str, Any]) -> None:
        deadline = time.monotonic() + CLOSE_PATIENCE_S
        while True:
            try:
                return write_json(path, value)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)


def say(text: str) -> None:
    """A line for log.txt, which a full disk may swallow: no reason to end a training."""
    with suppress(OSError):
        print(text, flush=True)


def _append(path: Path, event: Event) -> None:
    """Append an event, wholly or not at all: a disk that fills up in the middle of a line takes a part of it."""
    size = path.stat().st_size if path.exists() else 0
    events.append(path, event)
    with open(path, "rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
