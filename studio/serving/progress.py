"""How far vLLM has come with starting, read from what it prints."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Phase:
    """A stretch of the start. `begins` is what vLLM prints at its beginning; `usual_s` how long it tends to take."""

    name: str
    message: str
    usual_s: float
    begins: re.Pattern[str] | None = None


PHASES = (
    Phase("importing", "importing vLLM", 6.0),
    Phase("starting engine", "starting the engine process", 1.0, re.compile(r"non-default args")),
    Phase("starting worker", "starting the worker process", 6.0, re.compile(r"Initializing a V1 LLM engine")),
    Phase("loading weights", "loading weights", 1.0, re.compile(r"Starting to load model")),
    Phase("warming up", "warming up and reserving the KV cache", 1.5, re.compile(r"Loading weights took")),
    Phase("opening", "opening the HTTP interface", 1.0, re.compile(r"init engine \(profile")),
    Phase("checking", "loading adapters and checking answers", 1.0),
    Phase("ready", "ready", 0.0),
)
_SHARDS = re.compile(r"checkpoint shards:\s+(\d+)% Completed")
_DETAILS = (
    (_SHARDS, "loading weights: {}%"),
    (re.compile(r"torch\.compile took ([\d.]+)"), "warming up: compiled in {} s"),
    (re.compile(r"Capturing CUDA graphs.*?(\d+)%"), "warming up: capturing CUDA graphs, {}%"),
)


@dataclass
class Progress:
    """The phase that is running, and how long each one before it took. `usual_s`: an earlier start's seconds."""

    usual_s: Mapping[str, float] = field(default_factory=dict)
    index: int = 0
    message: str = PHASES[0].message
    since: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        return PHASES[self.index]

    def read(self, line: str) -> None:
        """Take note of a line that vLLM printed."""
        for index in range(self.index + 1, len(PHASES)):
            begins = PHASES[index].begins
            if begins and begins.search(line):
                self._enter(index)
        for pattern, message in _DETAILS:
            if found := pattern.search(line):
                self.message = message.format(found[1])

    def enter(self, name: str) -> None:
        """Enter a phase that nothing printed announces."""
        self._enter([phase.name for phase in PHASES].index(name))

    def eta_s(self) -> float:
        """Seconds until ready, as far as an earlier start (or the usual one) tells."""
        left = max(0.0, self._usual_s(self.phase) - (time.monotonic() - self.since))
        return left + sum(self._usual_s(phase) for phase in PHASES[self.index + 1 :])

    def to_json(self) -> dict[str, Any]:
        """The value for status.json."""
        last = len(PHASES) - 1
        figures = {"step": self.index, "total_steps": last, "eta_s": round(self.eta_s(), 1)}
        return {"phase": self.phase.name, "message": self.message, **figures, "at": time.time()}

    def _usual_s(self, phase: Phase) -> float:
        return self.usual_s.get(phase.name, phase.usual_s)

    def _enter(self, index: int) -> None:
        now = time.monotonic()
        self.seconds[self.phase.name] = round(now - self.since, 2)
        self.index, self.message, self.since = index, PHASES[index].message, now
