"""Learning to prefer the better of two answers without a reference model (ORPO, SimPO)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from studio.worker.encode import IGNORED
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting, arguments


class Unreferenced(Recorded):
    """What TRL's two trainers lack: they would render and tokenise the rows that they are handed."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return feature


class OddsTrainer(Unreferenced, ORPOTrainer):  # type: ignore[misc]  # trl is untyped
    """Odds ratio preference optimisation."""

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, ...]:
        """As TRL's, but with the plain loss on the chosen answers only: it would learn their prompts too."""
        forward = super().concatenated_forward(model, batch)
        means, tokens = forward[0], (batch["chosen_labels"][:, 1:] != IGNORED).sum(1)
        return *forward[:4], -(means * tokens).sum() / tokens.sum(), *forward[5:]


class MarginTrainer(Unreferenced, CPOTrainer):  # type: ignore[misc]  # trl is untyped
    """Simple preference optimisation: the mean token of the chosen answer is to be likelier by a margin."""


@dataclass(frozen=True)
class Pairs:
    """Rows as a batch of either answer behind its prompt, padded to its longest. Labels are those of the answers."""

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {**self._side("chosen", rows), **self._side("rejected", rows)}

    def _side(self, name: str, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        prompts, answers = [row["prompt_ids"] for row in rows], [row[f"{name}_ids"] for row in rows]
        both = list(zip(prompts, answers, strict=True))
        columns = {
            "input_ids": (self.pad_token_id, [prompt + answer for prompt, answer in both]),
            "attention_mask": (0, [[1] * len(prompt + answer) for prompt, answer in both]),
            "labels": (IGNORED, [[IGNORED] * len(prompt) + answer for prompt, answer in both]),
        }
        return {f"{name}_{key}": _padded(values, filling) for key, (filling, values) in columns.items()}


def _padded(values: list[list[int]], filling: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(each) for each in values], batch_first=True, padding_value=filling)


def build(setting: Setting) -> Recorded:
    """The trainer of a preference training by ORPO or SimPO."""
    config, tokenizer = setting.config, setting.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    shared = {
        **arguments(setting),
        "beta": config.pref_beta,
        "disable_dropout": not config.lora_dropout,
        "remove_unused_columns": False,
        "max_length": setting.data.cutoff_len,
    }
    parts = {**setting.parts, "data_collator": Pairs(tokenizer.pad_token_id)}
    # both map over what they are given, row by row and even a stream as if it had a length
    stand_in = Dataset.from_dict({"prompt_ids": [[0]]})
    parts |= {"train_dataset": stand_in, "eval_dataset": stand_in if setting.data.validation is not None else None}
    if config.pref_loss == "orpo":
        trainer: Unreferenced = OddsTrainer(args=ORPOConfig(**shared), **parts)
    else:
        simpo = partial(CPOConfig, loss_type="simpo", simpo_gamma=config.simpo_gamma, cpo_alpha=config.pref_ftx)
        trainer = MarginTrainer(args=simpo(**shared), **parts)
    trainer.train_dataset, trainer.eval_dataset = setting.data.train, setting.data.validation
    return trainer.recorded(setting)
