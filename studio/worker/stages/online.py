"""Learning from rewards for answers that the model writes itself (GRPO, RLOO).

A prompt is a conversation without its last answer, which is what rewards may compare with. Prompts come as tokens, as
the page shows them; the answers to one prompt are compared with each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from peft import PeftModel
from torch.utils.data import Sampler
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer.utils import RepeatSampler

from studio.config.train import TrainConfig
from studio.errors import DatasetError, ModelError
from studio.runs.events import Sample
from studio.worker import rewards
from studio.worker.progress import Interrupted
from studio.worker.rewards import Answers, Reward
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting, arguments

DRAWN = "answers.pt"  # of a checkpoint: those that were drawn and are not done with
WARNED_AFTER = 10
SHOWN_TIMES = 20  # answers of a run, where nobody says how often


class Online(Recorded):
    """What both trainers do alike: prompts as encoded, answers that are shown, an order that a resume finds again."""

    shown_steps: int
    _asked: list[list[int]]
    _writing = False
    _same_in_a_row = 0
    _step: int  # TRL's count of backward passes
    _buffered_inputs: Any  # its answers, in the batches that they are learned from

    def recorded(self, setting: Setting) -> Self:
        """This trainer, reporting to the run of `setting`."""
        super().recorded(setting)
        self.shown_steps = setting.config.sample_steps or 0
        # an adapter's own forward is passed by while it writes; every token goes through the embeddings
        self.model.get_input_embeddings().register_forward_pre_hook(self._heed_stop)
        return self

    def tokens_of(self, inputs: Any) -> int:
        """Tokens read and written since the last step; those of all processes, which the first one tells of."""
        seen = max(0, int(self.state.num_input_tokens_seen) - self.progress.tokens)
        return seen if self.desk.rank.is_first else 0

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        args, source = self.args, self.train_dataset if dataset is None else dataset
        return Reshuffled(
            data_source=source,
            mini_repeat_count=self.num_generations,
            batch_size=args.generation_batch_size // self.num_generations,
            repeat_count=self.num_iterations * args.steps_per_generation,
            seed=args.seed,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if self._step == 0:  # a resumed run does not begin with the first
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        return super()._prepare_inputs(generation_batch)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self._step % (self.args.steps_per_generation * self.num_iterations):  # they are to be learned from again
            torch.save(self._buffered_inputs, self._drawn(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        # of another number of processes they are dealt out otherwise: all draw new ones
        if checkpoint and not self.desk.consensus.any(not self._drawn(checkpoint).exists()):
            self._buffered_inputs = torch.load(
                self._drawn(checkpoint), map_location=self.args.device, weights_only=True
            )

    def _drawn(self, checkpoint: str) -> Path:
        rank = self.desk.rank
        return Path(checkpoint) / (DRAWN if rank.world == 1 else f"{rank.index}_of_{rank.world}_{DRAWN}")

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._asked = [row["prompt_ids"] for row in inputs]
        with self._interruptible():
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self._show(inputs[0]["prompt"], self._logs["completion"][-len(inputs)])
            self._warn_of_sameness()
        return batch

    def _generate_single_turn(self, *args: Any, **keys: Any) -> Any:
        answers, stopped, before = None, False, self._writing
        self._writing = True
        try:
            with self.accelerator.autocast():  # TRL writes in the type of the weights, and parts may be of several
                answers = super()._generate_single_turn(*args, **keys)
        except Interrupted:
            stopped = True
        finally:
            self._writing = before
        # processes write answers of several lengths: whoever is done waits here for the others
        if (stopped or self.desk.rank.world > 1) and self.desk.consensus.heed(stopped):
            raise Interrupted
        return answers

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self._asked, None, {}

    def _show(self, prompt: str, answer: str) -> None:
        step = self.state.global_step
        if step % (self.shown_steps or max(1, self.state.max_steps // SHOWN_TIMES)) == 0:
            asked = str(json.loads(prompt)[-1]["content"])
            self.desk.reporter.event(Sample(step, asked, answer.strip(), time.time()))

    def _warn_of_sameness(self) -> None:
        """Answers are compared with each other: a reward that knows no difference teaches nothing."""
        same = self._metrics["train"]["frac_reward_zero_std"][-1] == 1
        self._same_in_a_row = self._same_in_a_row + 1 if same else 0
        if self._same_in_a_row == WARNED_AFTER:
            reward = self._metrics["train"]["reward"][-1]
            self.desk.reporter.note(
                "warning",
                f"{WARNED_AFTER} times all answers to a prompt got the same reward (now {reward:.3g}), so nothing is "
                "learned: choose a reward that tells them apart, or raise temperature or num_generations",
            )

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A stop request need not wait for the last token; the random numbers are then as before the first."""
        before = torch.get_rng_state(), torch.cuda.get_rng_state_all()
        self._writing = self.desk.rank.world == 1  # of several none may leave what all compute together
        try:
            yield
        except Interrupted:
            torch.set_rng_state(before[0])
            torch.cuda.set_rng_state_all(before[1])
            raise
        finally:
            self._writing = False

    def _heed_stop(self, *_: Any) -> None:
        if self._writing and self._is_asked_to_stop():
            raise Interrupted

    def _is_asked_to_stop(self) -> bool:
        # where no process has all weights, all write in step
        return self.desk.consensus.heed() if self.setting.sharding.is_sharded else self.desk.requests.stop


class Reshuffled(RepeatSampler):  # type: ignore[misc]  # trl is untyped
    """Prompts in an order of their own in each epoch, which a resumed run finds again."""

    def set_epoch(self, epoch: int) -> None:
        """The epoch that is about to begin."""
        self.generator.manual_seed(self.seed + epoch)


class GroupTrainer(Online, GRPOTrainer):  # type: ignore[misc]  # trl is untyped
    """Group relative policy optimisation."""


class LeaveOneOutTrainer(Online, RLOOTrainer):  # type: ignore[misc]  # trl is untyped
    """REINFORCE with the other answers to the same prompt as the baseline."""


def build(setting: Setting) -> Recorded:
    """The trainer of a training on rewards.

    Raises:
        RewardError, ModelError: a reward that cannot be given.
        DatasetError: fewer prompts than one step needs.
    """
    config = setting.config
    _require_room(setting)
    functions = [_rewarding(name, reward) for name, reward in rewards.build(config, setting.desk.run_dir).items()]
    kind, args = (GroupTrainer, GRPOConfig) if config.stage == "grpo" else (LeaveOneOutTrainer, RLOOConfig)
    trainer = kind(args=args(**arguments(setting), **_generation(config)), reward_funcs=functions, **setting.parts)
    if isinstance(trainer.model, PeftModel) and not config.kl_coef and "ref" in trainer.model.peft_config:
        trainer.model.delete_adapter("ref")  # TRL keeps a copy of an adapter that is continued, even for nothing
    return trainer.recorded(setting)


def _generation(config: TrainConfig) -> dict[str, Any]:
    return {
        "num_generations": config.num_generations,
        "num_generations_eval": 1,  # a validation compares nothing
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "beta": config.kl_coef,
        "num_iterations": config.num_iterations,
        "epsilon": config.epsilon,
        "reward_weights": [float(share) for share in config.reward_weights] or None,
        "disable_dropout": not config.lora_dropout,
    }


def _require_room(setting: Setting) -> None:
    """A step takes several prompts with several answers each, and an answer follows its prompt in the context."""
    config, train, processes = setting.config, setting.data.train, setting.desk.rank.world
    answers = config.per_device_train_batch_size * config.gradient_accumulation_steps * processes
    prompts = answers // config.num_generations
    if hasattr(train, "__len__") and len(train) < prompts:
        raise DatasetError(
            f"there are {len(train)} prompts, and a step takes {prompts}: lower gradient_accumulation_steps or "
            "per_device_train_batch_size, or add rows"
        )
    context = getattr(setting.model.config, "max_position_embeddings", None)
    if context and config.max_completion_length >= context:
        raise ModelError(f"max_completion_length: the model's context is {context} tokens, prompt included; lower it")


def _rewarding(name: str, reward: Reward) -> Callable[..., list[float]]:
    """A reward as TRL calls it; it charts it by its name."""

    def function(
        prompts: list[str], completions: list[str], completion_ids: list[list[int]], reference: list[str], **_: Any
    ) -> list[float]:
        return reward(Answers([json.loads(prompt) for prompt in prompts], completions, completion_ids, reference))

    function.__name__ = name
    return function
