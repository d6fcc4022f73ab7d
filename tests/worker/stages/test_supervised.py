"""Losses of supervised training, computed here from the model itself, and continued pre-training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.worker.stages.supervised import spread_loss
from tests.worker.conftest import Train
from tests.worker.stages.conftest import TEXTS, StageTrain
from tests.worker.test_training import encoded

ONCE = {"max_steps": 1, "save_steps": 0, "bf16": False, "finetuning_type": "full"}


def logits_of(model_dir: Path, rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of all trained tokens, every row alone."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    logits, targets = [], []
    with torch.no_grad():
        for ids, labels in rows:
            kept = torch.tensor(labels[1:]) != -100
            logits.append(model(input_ids=torch.tensor([ids])).logits[0, :-1][kept])
            targets.append(torch.tensor(labels[1:])[kept])
    return torch.cat(logits), torch.cat(targets)


def test_smoothed_weighted_and_spread_losses(train: Train, tiny_model: Path) -> None:
    batch = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 4, **ONCE}
    plain = train("plain", **batch)
    rows = [(row.input_ids, row.labels) for row in encoded(plain.run_dir, tiny_model)]
    logits, targets = logits_of(tiny_model, rows)
    chances = logits.log_softmax(-1)
    surprise = -chances.gather(-1, targets[:, None])[:, 0]
    spread = 0.01 * logits.logsumexp(-1).square().mean()
    smoothed = (0.9 * surprise - 0.1 * chances.mean(-1)).mean()
    weighted = (surprise * (-surprise).exp()).mean()
    cases = [
        ({}, surprise.mean()),
        ({"z_loss_coef": 0.01}, surprise.mean() + spread),
        ({"label_smoothing_factor": 0.1}, smoothed),
        ({"label_smoothing_factor": 0.1, "z_loss_coef": 0.01}, smoothed + spread),
        ({"use_dft_loss": True}, weighted),
        ({"use_dft_loss": True, "z_loss_coef": 0.01}, weighted + spread),
    ]
    for number, (keys, expected) in enumerate(cases):
        assert train(f"run-{number}", **batch, **keys).losses[1] == pytest.approx(expected.item(), abs=2e-5), keys


def test_a_frozen_model_in_bfloat16_is_trained_in_two_types(stage: StageTrain) -> None:
    run = stage("sft", "talks", finetuning_type="freeze", bf16=True, max_steps=6, learning_rate=3e-3)
    assert run.losses[6] < run.losses[1]
    assert "padded" not in run.notes


def test_without_a_z_loss_nothing_of_it_is_computed() -> None:
    assert spread_loss(parse(TrainConfig, {"dataset": ["demo"], "z_loss_coef": 0})) is None


def test_documents_are_packed_whole_and_do_not_see_each_other(stage: StageTrain, tiny_model: Path) -> None:
    run = stage("pt", "texts", **ONCE, cutoff_len=128, per_device_train_batch_size=99)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = []
    for text in TEXTS:
        ids = tokenizer(text["text"] + "<|im_end|>")["input_ids"]
        rows += [(piece, [-100, *piece[1:]]) for piece in (ids[at : at + 128] for at in range(0, len(ids), 128))]
    logits, targets = logits_of(tiny_model, rows)
    assert run.losses[1] == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), abs=1e-4)
    [step] = run.events("step")
    assert step["tokens"] == sum(len(ids) for ids, _ in rows)


def test_text_is_learnt_and_conversations_as_text_too(stage: StageTrain) -> None:
    for dataset in ("texts", "talks"):
        keys = {"finetuning_type": "full", "learning_rate": 3e-3, "val_size": 3, "eval_steps": 20, "cutoff_len": 128}
        run = stage("pt", dataset, dataset, **keys)
        assert run.losses[20] < run.losses[1] - 1
        assert run.events("eval")[-1]["eval_loss"] < run.losses[1] - 1
