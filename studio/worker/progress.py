"""What a training tells while it runs, and the requests it answers between two steps."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from studio.errors import RunError
from studio.runs.events import Eval, Step
from studio.worker.door import Desk
from studio.worker.report import say

WINDOW_STEPS = 20
GB = 1e9
VALIDATED = re.compile(r"eval_((?P<name>.+)_)?loss")  # as the trainer calls it


class Diverged(RunError):
    """The loss or the gradient is not a number any more."""


class Interrupted(Exception):  # no error: how a stop request leaves the middle of a validation
    """The run was asked to stop."""


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Writes metrics and status, raises on a broken loss, and turns STOP and SAVE into the trainer's own flags.

    `tokens` counts what went through the model, beginning with those before a resume.
    """

    def __init__(self, desk: Desk, tokens: int, tolerates_skips: bool) -> None:
        self.tokens = tokens
        self.last_checkpoint = ""
        self._desk = desk
        # fp16's loss scaling meets infinite gradients on purpose and skips those steps
        self._tolerates_skips = tolerates_skips
        self._window: deque[tuple[float, int, int]] = deque(maxlen=WINDOW_STEPS + 1)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._mark(state)

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        control.should_training_stop |= self._desk.requests.stop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._desk.requests.protect()  # from the first step on there is something to save
        control.should_training_stop |= self._desk.requests.stop
        control.should_save |= self._desk.requests.take_save()
        # a checkpoint of broken weights is worse than none: look at the loss first
        control.should_log |= control.should_save or control.should_training_stop

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._desk.requests.stop:
            raise Interrupted

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs:
            self._log_step(state, logs)
        for key, value in (logs or {}).items():
            if found := VALIDATED.fullmatch(key):
                self._desk.reporter.event(Eval(state.global_step, float(value), time.time(), found["name"] or ""))

    def _log_step(self, state: TrainerState, logs: dict[str, Any]) -> None:
        if not self._desk.clock.is_stopped:
            self._desk.clock.stop()
            say(str(self._desk.clock))
        tokens_per_s, step_s = self._mark(state)
        step = Step(
            step=state.global_step,
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            grad_norm=float(logs.get("grad_norm", math.nan)),
            tokens=self.tokens,
            tokens_per_s=tokens_per_s,
            epoch=float(state.epoch or 0),
            memory_gb=memory_gb(),
            at=time.time(),
        )
        self._desk.reporter.event(step)
        self._desk.reporter.step(step.step, state.max_steps, (state.max_steps - step.step) * step_s)
        self._refuse_nan(step)

    def _mark(self, state: TrainerState) -> tuple[float, float]:
        """Tokens a second and seconds a step over the last steps, so that a resume or a pause does not skew them."""
        self._window.append((time.monotonic(), self.tokens, state.global_step))
        (then, tokens, step), (now, *_) = self._window[0], self._window[-1]
        elapsed_s = max(now - then, 1e-9)
        return (self.tokens - tokens) / elapsed_s, elapsed_s / max(state.global_step - step, 1)

    def _refuse_nan(self, step: Step) -> None:
        broken = "loss" if not math.isfinite(step.loss) else "gradient"
        if math.isfinite(step.loss) and (math.isfinite(step.grad_norm) or self._tolerates_skips):
            return
        saved = f"The last good checkpoint is {self.last_checkpoint}." if self.last_checkpoint else ""
        raise Diverged(
            f"the {broken} is not a number at step {step.step}. {saved} Lower learning_rate (the step had "
            f"{step.learning_rate:.2g}) or max_grad_norm, or raise warmup_steps; in fp16 use bf16 instead"
        )


def memory_gb() -> float:
    """Peak of allocated GPU memory, or this process's resident memory, in GB of 1e9 bytes."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / GB)
    return float(psutil.Process().memory_info().rss / GB)
