"""Watching a run from the terminal: what it does, line by line, until it ends. The run does not notice."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from studio.cli.terminal import duration, say, tick
from studio.runs import events, nodes
from studio.runs.run import Run, State

POLL_S = 0.3
EXIT_CODES = {State.COMPLETED: 0, State.STOPPED: 10, State.FAILED: 1, State.LOST: 1, State.DAMAGED: 1}


def follow(run: Run, until: Callable[[Run], bool] = lambda run: False) -> int:
    """Print what `run` does until it has ended or `until` says that this is enough; the exit code.

    Ctrl-C asks the run to save and stop, a second one to stop now.
    """
    say(f"Run {run.id}")
    invite(run)
    watch = Watch(run)
    while True:
        try:
            while run.is_active and not until(run):
                watch.show()
                time.sleep(POLL_S)
            watch.show()
            return _end(run)
        except KeyboardInterrupt:
            _stop(run)


def invite(run: Run) -> None:
    """Say what to type on the further machines of a run, whole: the status line is cut where the terminal ends."""
    for each in nodes.commands(run):
        print(f"On {each.host or f'node {each.node}'} type: {each.text}", file=sys.stderr)


class Watch:
    """What has been shown of a run so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.cursor = 0
        self.message = ""

    def show(self) -> None:
        """Print what is new: every note, and the newest step or else what the worker says it does."""
        new, self.cursor = events.read(self.run.metrics, self.cursor)
        steps = [event for event in new if event["type"] == "step"]
        status = self.run.status
        for event in new:
            if event["type"] in LASTING:
                say(LASTING[event["type"]](event))
        if steps:
            tick(_step(steps[-1], status))
        elif (message := _doing(status)) != self.message and status.get("phase") != "training":
            tick(message)
        self.message = _doing(status)


def _doing(status: dict[str, Any]) -> str:
    phase, message = status.get("phase", ""), status.get("message", "")
    return message if phase in message else ": ".join(part for part in (phase, message) if part)


def _end(run: Run) -> int:
    state = run.state
    if state not in EXIT_CODES:
        return 0
    say(f"{state}: {run.reason}" if run.reason else f"{state}: {_summary(run)}")
    if state in (State.FAILED, State.LOST):
        say(f"Its log: python -m studio runs log {run.id}")
    return EXIT_CODES[state]


def _summary(run: Run) -> str:
    figures = ", ".join(f"{key} {_figure(value)}" for key, value in run.result.items() if _is_figure(value))
    return " → ".join(part for part in (figures, str(run.output or "")) if part) or run.id


def _stop(run: Run) -> None:
    if (run.path / "STOP").exists():
        say("Stopping now.")
        run.stop_now()
    else:
        saved, unsaved = ("; what is learned so far is saved", ", without saving") if run.kind == "train" else ("", "")
        say(f"Stopping{saved}. Ctrl-C again stops at once{unsaved}.")
        run.stop()


def _step(event: dict[str, Any], status: dict[str, Any]) -> str:
    parts = [f"step {event['step']}/{status.get('total_steps') or '?'}"]
    figures = {**event, **event.get("metrics", {})}
    parts += [f"{label} {_figure(figures[key])}" for key, label in FIGURES.items() if figures.get(key) is not None]
    if status.get("eta_s") is not None:
        parts.append(f"{duration(status['eta_s'])} left")
    return " · ".join(parts)


def _validation(event: dict[str, Any]) -> str:
    figures = {"loss": event["eval_loss"], **event.get("metrics", {})}
    told = [f"{label} {_figure(figures[key])}" for key, label in VALIDATED.items() if key in figures]
    where = f" on {event['dataset']}" if event.get("dataset") else ""
    return f"validation after step {event['step']}{where}: {', '.join(told)}"


STAGES = {"rewards/margins": "margin", "rewards/accuracies": "accuracy", "reward": "reward", "kl": "KL"}
FIGURES = {"loss": "loss", **STAGES, "learning_rate": "lr", "tokens_per_s": "tokens/s", "memory_gb": "GB"}
VALIDATED = {"loss": "loss", "perplexity": "perplexity", "token_accuracy": "token accuracy", **STAGES}
LASTING: dict[str, Callable[[dict[str, Any]], str]] = {
    "eval": _validation,
    "sample": lambda event: f"answer after step {event['step']}: {event['prompt']!r} → {event['answer']!r}",
    "checkpoint": lambda event: f"saved {event['path']}",
    "note": lambda event: f"{event['level']}: {event['text']}",
}


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
