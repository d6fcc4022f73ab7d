"""Which validation was the best, and for how long none has been better.

What is known is kept in the trainer's state, which every checkpoint holds: it survives a resume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from transformers import TrainerState

from studio.config.train import TrainConfig
from studio.errors import RunError
from studio.runs.events import Eval

LOWER = ("loss", "perplexity", "kl", "entropy")  # better when lower; all else when higher


class Best:
    """Judges every validation by one metric; where `datasets` are each validated by itself, by that of the one that it
    names (NAME_loss), or by the mean of all."""

    def __init__(self, config: TrainConfig, datasets: Sequence[str] = ()) -> None:
        asked = config.metric_for_best_model.removeprefix("eval_")
        self.metric = "token_accuracy" if asked == "mean_token_accuracy" else asked
        named = [name for name in datasets if asked.startswith(f"{name}_")]
        self._dataset = max(named, key=len, default="")
        self._figure = self.metric.removeprefix(f"{self._dataset}_")
        self.is_kept = config.load_best_model_at_end or config.early_stopping_steps is not None
        self._patience: int | None = config.early_stopping_steps
        self._sets = 1 if self._dataset else len(datasets) or 1
        self._values: list[float] = []

    def judge(self, found: Eval, state: TrainerState) -> bool:
        """Whether the validation of this step, complete with `found`, is the best; `state` remembers it.

        Raises:
            RunError: validations do not have the metric.
        """
        if self._dataset not in ("", found.dataset):
            return False
        self._values.append(self._value(found))
        if len(self._values) < self._sets:
            return False
        value, self._values = sum(self._values) / self._sets, []
        if not self._is_better(value, state.best_metric):
            return False
        state.best_metric, state.best_global_step = value, state.global_step
        return True

    def is_hopeless(self, state: TrainerState) -> bool:
        """Whether as many validations as early_stopping_steps says, each complete, came after the best."""
        if self._patience is None or state.best_global_step is None or self._values:
            return False
        mark = f"eval_{self._dataset}_loss" if self._dataset else "eval_"
        validated = {entry["step"] for entry in state.log_history if any(key.startswith(mark) for key in entry)}
        return len([step for step in validated if step > state.best_global_step]) >= self._patience

    def _value(self, found: Eval) -> float:
        known = {"loss": found.eval_loss, **found.metrics}
        if self._figure in known:
            return known[self._figure]
        if self.is_kept:
            names = ", ".join(sorted(known))
            raise RunError(f"metric_for_best_model: the validation has no {self._figure}; it has {names}")
        return math.nan

    def _is_better(self, value: float, best: float | None) -> bool:
        if best is None or not math.isfinite(value):
            return math.isfinite(value)
        return value < best if self.metric.endswith(LOWER) else value > best
