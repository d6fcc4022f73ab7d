"""Recorded passes on a CUDA device teach what plain ones do; where they cannot be made all goes on plainly."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import pytest
import torch

from studio.worker.fast import graphs
from studio.worker.fast.graphs import Graphs
from studio.worker.stages.supervised import SupervisedTrainer
from tests.worker.conftest import Train

pytestmark = pytest.mark.gpu
KEYS: dict[str, Any] = {"max_steps": 24, "learning_rate": 1e-3, "save_steps": 0, "per_device_train_batch_size": 2}
DEALT = {"gradient_accumulation_steps": 4}


def losses(run: Any) -> list[float]:
    return list(run.losses.values())


def way(run: Any) -> str:
    told: dict[str, str] = run.json("result.json")["paths"]
    return told["launching"]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"finetuning_type": "full", "learning_rate": 1e-4},
        {"quantization_bit": 4},
        {"micro_batch_tokens": 120},
        {"gradient_checkpointing": "on"},
        {"use_dft_loss": True},
        {"stage": "pt"},
    ],
    ids=["adapter", "full", "4 bits", "several passes", "recomputed", "dft", "text"],
)
def test_recorded_passes_teach_the_same(train: Train, keys: dict[str, Any]) -> None:
    keys = {**KEYS, **DEALT, **keys}
    plain, recorded = (train(f"graphs-{wanted}", cuda_graphs=wanted, **keys) for wanted in (False, True))
    assert way(recorded) == graphs.WAY
    assert "launching" not in plain.json("result.json")["paths"]
    assert losses(recorded) == pytest.approx(losses(plain), rel=0.02)
    assert recorded.json("result.json")["tokens"] == plain.json("result.json")["tokens"]
    ours, theirs = ([event["metrics"] for event in run.events("step")] for run in (recorded, plain))
    for one, other in zip(ours, theirs, strict=True):
        assert one["token_accuracy"] == pytest.approx(other["token_accuracy"], abs=0.05)
        assert one["entropy"] == pytest.approx(other["entropy"], rel=0.05)


@pytest.mark.parametrize("ample", [0, 1 << 60], ids=["beside them", "in their place"])
def test_a_validation_between_recorded_passes_changes_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch, ample: int
) -> None:
    monkeypatch.setattr(graphs, "AMPLE", ample)
    keys = {**KEYS, **DEALT, "val_size": 4, "eval_steps": 5}
    plain, recorded = (train(f"eval-{wanted}", cuda_graphs=wanted, **keys) for wanted in (False, True))
    assert way(recorded) == graphs.WAY
    ours, theirs = ([event["eval_loss"] for event in run.events("eval")] for run in (recorded, plain))
    assert ours == pytest.approx(theirs, rel=0.02)


def test_a_pass_that_waits_for_the_device_is_not_recorded(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = SupervisedTrainer._learn

    def waiting(self: SupervisedTrainer, *given: Any) -> Any:
        told = learn(self, *given)
        told[0].item()
        return told

    plain = train("plain", cuda_graphs=False, **KEYS, **DEALT)
    monkeypatch.setattr(SupervisedTrainer, "_learn", waiting)
    run = train("waiting", **KEYS, **DEALT)
    assert way(run) == graphs.PLAIN
    assert losses(run) == pytest.approx(losses(plain), rel=0.02)
    torch.ones(1, device="cuda").item()  # nothing is broken for good


@pytest.mark.parametrize("wrong", [1.1, math.nan])
def test_a_recording_that_tells_something_else_is_not_used(
    train: Train, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    figures, factors = Graphs._figures, iter((1.0, wrong))

    def off(self: Graphs, told: Any) -> Any:
        factor, (whole, parts) = next(factors), figures(self, told)
        return [each * factor for each in whole], parts

    plain = train("plain", cuda_graphs=False, **KEYS, **DEALT)
    monkeypatch.setattr(Graphs, "_figures", off)
    run = train("off", **KEYS, **DEALT)
    assert way(run) == graphs.PLAIN
    assert losses(run) == pytest.approx(losses(plain), rel=0.02)


@pytest.mark.parametrize(("times", "expected"), [(1, graphs.WAY), (99, graphs.PLAIN)], ids=["once", "always"])
def test_a_recording_that_finds_no_memory_leaves_what_was_learnt(
    train: Train, monkeypatch: pytest.MonkeyPatch, times: int, expected: str
) -> None:
    """In the second pass of a step, when gradients of the first are there."""
    record, turns = Graphs._record, count()

    def short(self: Graphs, batch: Any, is_first: bool) -> Any:
        if not is_first and next(turns) < times:
            raise torch.OutOfMemoryError("caused by this test")
        return record(self, batch, is_first)

    keys = {**KEYS, **DEALT, "micro_batch_tokens": 120}
    plain = train("plain", cuda_graphs=False, **keys)
    monkeypatch.setattr(Graphs, "_record", short)
    run = train("short", **keys)
    assert way(run) == expected
    assert losses(run) == pytest.approx(losses(plain), rel=0.02)
