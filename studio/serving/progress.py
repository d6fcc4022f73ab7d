"""How far a server has come with starting, read from what it prints."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Phase:
    """A stretch of the start. `begins` is what is printed at its beginning; `usual_s` how long it tends to take."""

    name: str
    message: str
    usual_s: float
    begins: re.Pattern[str] | None = None


PROCESS = Phase("process", "starting the processes", 18.0)
WEIGHTS = Phase("weights", "loading the weights", 1.0, re.compile(r"Starting to load model|^phase: weights"))
ADAPTERS = Phase("adapters", "loading adapters and checking answers", 1.0)
READY = Phase("ready", "ready", 0.0)
PHASES = (
    PROCESS,
    WEIGHTS,
    Phase("compile", "compiling and warming up", 0.5, re.compile(r"Loading weights took")),
    Phase("KV cache", "reserving the KV cache", 1.5, re.compile(r"KV cache size:")),
    ADAPTERS,
    READY,
)
# Transformers compiles nothing and takes memory for what it remembers as it goes
STAND_IN_PHASES = (PROCESS, WEIGHTS, ADAPTERS, READY)
DETAILS = (
    (re.compile(r"non-default args"), "starting the engine process"),
    (re.compile(r"Initializing a V1 LLM engine"), "starting the worker process"),
    (re.compile(r"checkpoint shards:\s+(\d+)% Completed"), "loading the weights: {}%"),
    (re.compile(r"torch\.compile took ([\d.]+)"), "compiled in {} s, warming up"),
    (re.compile(r"Capturing CUDA graphs.*?(\d+)%"), "capturing CUDA graphs: {}%"),
    (re.compile(r"init engine \(profile"), "opening the HTTP interface"),
)


@dataclass
class Progress:
    """The phase that is running, and how long each one before it took. `usual_s`: an earlier start's seconds."""

    usual_s: Mapping[str, float] = field(default_factory=dict)
    phases: Sequence[Phase] = PHASES
    index: int = 0
    message: str = PROCESS.message
    since: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def phase(self) -> Phase:
        return self.phases[self.index]

    def read(self, line: str) -> None:
        """Take note of a line that the server printed."""
        for index in range(self.index + 1, len(self.phases)):
            begins = self.phases[index].begins
            if begins and begins.search(line):
                self._enter(index)
        if self.phase in (ADAPTERS, READY):  # what is printed now is about answers
            return
        for pattern, message in DETAILS:
            if found := pattern.search(line):
                self.message = message.format(*found.groups())

    def enter(self, phase: Phase) -> None:
        """Enter a phase that nothing printed announces."""
        self._enter(self.phases.index(phase))

    def eta_s(self) -> float:
        """Seconds until ready, as far as an earlier start (or the usual one) tells."""
        left = max(0.0, self._usual_s(self.phase) - (time.monotonic() - self.since))
        return left + sum(self._usual_s(phase) for phase in self.phases[self.index + 1 :])

    def to_json(self) -> dict[str, Any]:
        """The value for status.json: every phase with its seconds, None where it has not ended."""
        figures = {"step": self.index, "total_steps": len(self.phases) - 1, "eta_s": round(self.eta_s(), 1)}
        phases = [
            {"name": phase.name, "seconds": self.seconds.get(phase.name), "usual_s": self._usual_s(phase)}
            for phase in self.phases
        ]
        return {"phase": self.phase.name, "message": self.message, **figures, "phases": phases, "at": time.time()}

    def _usual_s(self, phase: Phase) -> float:
        return self.usual_s.get(phase.name, phase.usual_s)

    def _enter(self, index: int) -> None:
        """A phase that is passed over took no time."""
        now = time.monotonic()
        self.seconds[self.phase.name] = round(now - self.since, 2)
        self.seconds |= {phase.name: 0.0 for phase in self.phases[self.index + 1 : index]}
        self.index, self.message, self.since = index, self.phases[index].message, now
