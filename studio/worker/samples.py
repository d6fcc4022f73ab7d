"""What the model answers on the way to the same few prompts: a look at what the curves mean.

Answers are greedy, so they take nothing from the random numbers of the training, and its curve is the same with them
and without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from studio.config.train import TrainConfig
from studio.parallel.strategies import STRATEGIES
from studio.runs.events import Sample
from studio.worker.door import Desk
from studio.worker.prompts import beginning, question

ANSWER_TOKENS = 200


class Samples(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Has the prompts of a run answered before the first step, and at every validation or every sample_steps."""

    def __init__(
        self,
        desk: Desk,
        config: TrainConfig,
        tokenizer: PreTrainedTokenizerBase,
        precision: torch.dtype,
        device: torch.device,
    ) -> None:
        self._desk = desk
        self._every = config.sample_steps
        self._is_sharded = STRATEGIES[config.parallel_strategy].is_sharded
        self._tokenizer = tokenizer
        self._precision, self._device = precision, device  # weights may lie elsewhere while they are not used
        self._prompts = {text: _ids(text, config, tokenizer) for text in _lines(config.sample_prompts)}
        self._taken: set[int] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: Any
    ) -> None:
        if state.global_step == 0:
            self.take(model, 0)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: Any
    ) -> None:
        if self._every is None:
            self.take(model, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: Any
    ) -> None:
        if self._every and state.global_step % self._every == 0:
            self.take(model, state.global_step)

    def take(self, model: PreTrainedModel, step: int) -> None:
        """Answer every prompt, unless that was done after `step` steps already; a stop request ends it.

        Of several processes the first one does it, or all together where none has all weights.
        """
        if not self._prompts or step in self._taken or self._desk.consensus.stop:
            return
        self._taken.add(step)
        with self._desk.consensus.together():
            if self._is_sharded or self._desk.rank.is_first:
                self._answer_all(model, step)

    def _answer_all(self, model: PreTrainedModel, step: int) -> None:
        with evaluating(model), torch.autocast(self._device.type, self._precision, self._precision != torch.float32):
            for prompt, ids in self._prompts.items():
                answer = self._answer(model, ids)
                if self._is_asked_to_stop():
                    return
                self._desk.reporter.event(Sample(step, prompt, answer, time.time()))

    def _is_asked_to_stop(self) -> bool:
        return self._desk.consensus.heed() if self._is_sharded else self._desk.requests.stop

    def _answer(self, model: PreTrainedModel, ids: list[int]) -> str:
        tokens = torch.tensor([ids], device=self._device)
        written = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            use_cache=True,
            eos_token_id=ends(model, self._tokenizer),
            pad_token_id=self._tokenizer.pad_token_id,
            stopping_criteria=[_Stop(self._is_asked_to_stop)],
        )
        return str(self._tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)).strip()


def ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: those the model declares and the tokenizer's."""
    declared = model.generation_config.eos_token_id
    known = declared if isinstance(declared, list) else [declared]
    return [token for token in dict.fromkeys([tokenizer.eos_token_id, *known]) if token is not None]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Dropout and gradient checkpointing rest, then every part is in the mode that it was in."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


class _Stop(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    def __init__(self, is_asked: Callable[[], bool]) -> None:
        self._is_asked = is_asked

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._is_asked(), device=input_ids.device)


def _lines(prompts: str | None) -> list[str]:
    return [line.strip() for line in (prompts or "").splitlines() if line.strip()]


def _ids(text: str, config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A prompt as what was trained: a question to answer, or text to go on with."""
    if config.stage == "pt":
        return beginning(text, tokenizer)
    return question(text, tokenizer, config.default_system)
