"""What a training tells while it runs, and the requests it answers between two steps."""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from studio.config.train import TrainConfig
from studio.config.train.method import LANGUAGE
from studio.runs.events import Eval, Step
from studio.worker.best import Best
from studio.worker.divergence import Watch
from studio.worker.door import Desk
from studio.worker.report import say

WINDOW_STEPS = 20
GB = 1e9
LARGEST_LOSS = 700.0  # that a float can be the perplexity of
RENAMED = {"mean_token_accuracy": "token_accuracy"}
NO_METRIC = re.compile(
    r"loss|grad_norm|learning_rate|epoch|step|num_tokens|step_time|total_flos|runtime|model_preparation_time|.*_per_second"
    r"|clip_ratio/(low|high)_.*|completions/(min|max)_.*|sampling/.*|logits/.*"
)


class Interrupted(Exception):  # no error: how a stop request leaves the middle of a validation
    """The run was asked to stop."""


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Writes metrics and status, raises on a broken loss, and turns STOP and SAVE into the trainer's own flags.

    `tokens` counts what went through the model, beginning with those before a resume. `datasets` are those that are
    each validated by itself.
    """

    def __init__(self, desk: Desk, config: TrainConfig, tokens: int, datasets: Sequence[str] = ()) -> None:
        self.tokens = tokens
        self._tokens_told = tokens  # of the last whole step, which is told when the next may have begun
        self.last_checkpoint = ""
        self.best = Best(config, datasets)
        self._desk = desk
        self._config = config
        self._datasets = tuple(datasets)
        self._watch = Watch(config)
        self._window: deque[tuple[float, int, int]] = deque(maxlen=WINDOW_STEPS + 1)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # not before: a resumed stream is first read again up to its place, which is no measure of the steps to come
        if not self._window:
            self._mark(state)

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._hear(control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._desk.requests.protect()  # from the first step on there is something to save
        self._hear(control)
        self._tokens_told = self.tokens
        control.should_save |= self._desk.consensus.take_save()
        # a checkpoint of broken weights is worse than none: look at the loss first
        control.should_log |= control.should_save or control.should_training_stop

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._desk.consensus.heed():
            raise Interrupted

    def _hear(self, control: TrainerControl) -> None:
        self.tokens += self._desk.consensus.end()
        control.should_training_stop |= self._desk.consensus.stop

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
        for found in self._validations(state, logs or {}):
            self._desk.reporter.event(found)
            if self._is_best(found, state):
                control.should_save |= self.best.is_kept
            if self._desk.consensus.any(self._desk.rank.is_first and self.best.is_hopeless(state)):
                self._give_up(state, control)

    def _is_best(self, found: Eval, state: TrainerState) -> bool:
        """The first process judges for all: not every figure is the same in each."""
        is_best = self._desk.consensus.any(self._desk.rank.is_first and self.best.judge(found, state))
        if is_best:
            state.best_global_step = state.global_step
        return is_best

    def _give_up(self, state: TrainerState, control: TrainerControl) -> None:
        if not control.should_training_stop:
            text = f"No validation was better than that after step {state.best_global_step}: the training stops early"
            self._desk.reporter.note("info", text)
        control.should_training_stop = True

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
            tokens=self._tokens_told,
            tokens_per_s=tokens_per_s,
            epoch=float(state.epoch or 0),
            memory_gb=max(self._desk.consensus.memory_gb, default=0.0),
            at=time.time(),
            metrics=metrics_of(logs),
        )
        self._desk.reporter.event(step)
        self._desk.reporter.step(step.step, state.max_steps, (state.max_steps - step.step) * step_s)
        self._watch.look(step, self.last_checkpoint)

    def _validations(self, state: TrainerState, logs: dict[str, Any]) -> Iterator[Eval]:
        for dataset in ("", *self._datasets):
            prefix = f"eval_{dataset}_" if dataset else "eval_"
            if f"{prefix}loss" not in logs:
                continue
            loss = float(logs[f"{prefix}loss"])
            # only the loss and the time it took are named after the dataset
            named = {key.removeprefix(prefix).removeprefix("eval_"): value for key, value in logs.items()}
            yield Eval(state.global_step, loss, time.time(), dataset, metrics_of({**named, **self._perplexity(loss)}))

    def _perplexity(self, loss: float) -> dict[str, float]:
        config = self._config
        changes = (config.use_dft_loss, config.label_smoothing_factor, config.z_loss_coef, config.moe_aux_loss_coef)
        is_likelihood = config.stage in LANGUAGE and not any(changes)
        return {"perplexity": math.exp(loss)} if is_likelihood and loss < LARGEST_LOSS else {}

    def _mark(self, state: TrainerState) -> tuple[float, float]:
        """Tokens a second and seconds a step over the last steps, so that a resume or a pause does not skew them."""
        self._window.append((time.monotonic(), self._tokens_told, state.global_step))
        (then, tokens, step), (now, *_) = self._window[0], self._window[-1]
        elapsed_s = max(now - then, 1e-9)
        return (self._tokens_told - tokens) / elapsed_s, elapsed_s / max(state.global_step - step, 1)


def metrics_of(logs: dict[str, Any]) -> dict[str, float]:
    """The figures among what a trainer logs that have no place of their own, those that are finite."""
    figures = {name: value for name, value in logs.items() if isinstance(value, int | float)}
    return {
        RENAMED.get(name, name): float(value)
        for name, value in figures.items()
        if math.isfinite(value) and not NO_METRIC.fullmatch(name)
    }


def memory_gb() -> tuple[float, ...]:
    """Peak of allocated memory on each GPU that this process may use, or its resident memory, in GB of 1e9 bytes."""
    if torch.cuda.is_available():
        return tuple(_peak(device) / GB for device in range(torch.cuda.device_count()))
    return (_process(os.getpid()).memory_info().rss / GB,)


def _peak(device: int) -> int:
    """As torch.cuda.max_memory_allocated, which sorts some two hundred figures to find this one."""
    figures: dict[str, Any] = torch.cuda.memory_stats_as_nested_dict(device)
    return int(figures["allocated_bytes"]["all"]["peak"]) if figures else 0


@cache
def _process(pid: int) -> psutil.Process:
    return psutil.Process(pid)
