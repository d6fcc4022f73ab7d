"""When going on makes no sense: a loss that is no number, that explodes, or that is zero from the beginning."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE
from studio.errors import RunError
from studio.runs.events import Step

EXPLODED_LOGS = 5  # a lone spike is no explosion
EXPLODED_FACTOR = 3.0
LEAST_LOSS = 1.0  # below it a factor says little
ZERO_LOGS = 3


class Pointless(RunError):
    """Nothing is learned any more.

    `facts`: reason (nan, gradient, exploding, zero), step, loss, learning_rate, grad_norm, last_checkpoint ("": none).
    """

    def __init__(self, text: str, facts: dict[str, Any]) -> None:
        self.facts = facts
        super().__init__(text)


class Diverged(Pointless):
    """The loss or the gradient is not a number any more, or far beyond where it began."""


class LossZero(Pointless):
    """The loss is exactly zero from the first step on."""


class Watch:
    """Looks at every logged step of one training."""

    def __init__(self, config: TrainConfig) -> None:
        # fp16's loss scaling meets infinite gradients on purpose and skips those steps
        self._tolerates_skips = config.fp16
        # the loss of a policy is about zero by construction, whatever it learns
        self._means_something = config.stage not in ONLINE
        self._first: list[float] = []
        self._last: deque[Step] = deque(maxlen=EXPLODED_LOGS)

    def look(self, step: Step, last_checkpoint: str) -> None:
        """Remember `step`.

        Raises:
            Diverged, LossZero: it is time to give up.
        """
        facts = {
            "step": step.step,
            "loss": step.loss,
            "learning_rate": step.learning_rate,
            "grad_norm": step.grad_norm,
            "last_checkpoint": last_checkpoint,
        }
        self._refuse_nan(step, facts)
        if self._means_something:
            self._first += [step.loss] if len(self._first) < ZERO_LOGS else []
            self._last.append(step)
            self._refuse_explosion(facts)
            self._refuse_zero(facts)

    def _refuse_nan(self, step: Step, facts: dict[str, Any]) -> None:
        broken = "gradient" if math.isfinite(step.loss) else "loss"
        if math.isfinite(step.loss) and (math.isfinite(step.grad_norm) or self._tolerates_skips):
            return
        raise Diverged(
            f"the {broken} is not a number at step {step.step}. {_saved(facts)}Lower learning_rate (the step had "
            f"{step.learning_rate:.2g}) or max_grad_norm, or raise warmup_steps; in fp16 use bf16 instead",
            {**facts, "reason": "gradient" if broken == "gradient" else "nan"},
        )

    def _refuse_explosion(self, facts: dict[str, Any]) -> None:
        began = self._first[0]  # it may rise from the second step on
        limit = EXPLODED_FACTOR * max(began, LEAST_LOSS)
        if len(self._last) < EXPLODED_LOGS or min(step.loss for step in self._last) <= limit:
            return
        since = self._last[0].step
        raise Diverged(
            f"the loss explodes: it began at {began:.3g} and is {facts['loss']:.3g} at step {facts['step']}. "
            f"Checkpoints before step {since} may still be good. Lower learning_rate (the step had "
            f"{facts['learning_rate']:.2g}) or max_grad_norm, or raise warmup_steps",
            {**facts, "reason": "exploding", "began": began, "since": since},
        )

    def _refuse_zero(self, facts: dict[str, Any]) -> None:
        if len(self._first) != ZERO_LOGS or any(self._first):
            return
        raise LossZero(
            f"the loss was exactly zero from the beginning to step {facts['step']}, so nothing is learned: the model "
            "knows every answer already, or the computation underflows. Look at what is trained in the Datasets tab; "
            "if it is right, train in bf16 or float32 instead of fp16, and on other rows",
            {**facts, "reason": "zero"},
        )


def _saved(facts: dict[str, Any]) -> str:
    return f"The last good checkpoint is {facts['last_checkpoint']}. " if facts["last_checkpoint"] else ""
