"""Losses of supervised training, computed here from the model itself, and continued pre-training; what must not make a
difference: how the rows of a step lie in its passes, and when its figures are read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.worker.consensus import Consensus
from studio.worker.divergence import Diverged
from studio.worker.fast import figures
from studio.worker.progress import Progress
from studio.worker.stages.supervised import SupervisedTrainer, spread_loss
from tests.worker.conftest import Finished, Train
from tests.worker.stages.conftest import TEXTS, StageTrain
from tests.worker.test_training import BREAKING, encoded, hand_over

ONCE = {"max_steps": 1, "save_steps": 0, "bf16": False, "finetuning_type": "full"}
# 12 rows of about 39 tokens: two steps an epoch, of four and two batches, in three and two passes
ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "bf16": False, "max_steps": 5}
DEALT: dict[str, Any] = {**ACCUMULATED, "micro_batch_tokens": 120}
CLOCK = ("at", "tokens_per_s", "memory_gb")


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


@pytest.mark.parametrize(
    ("name", "dataset", "keys"),
    [
        ("sft", "talks", {}),
        ("sft", "talks", {"use_dft_loss": True}),
        ("sft", "talks", {"packing": True, "cutoff_len": 90}),
        ("pt", "texts", {"cutoff_len": 64}),
        ("sft", "talks", {"streaming": True}),
        ("sft", "talks", {"val_size": 3, "eval_steps": 2}),
        ("sft", "talks", {"use_dora": True}),
        ("sft", "talks", {"label_smoothing_factor": 0.1}),
    ],
    ids=["rows", "weighted", "packed", "documents", "streamed", "validated", "dora", "smoothed, as before"],
)
def test_rows_that_are_dealt_anew_teach_the_same(
    stage: StageTrain, name: str, dataset: str, keys: dict[str, Any]
) -> None:
    plain, dealt = (stage(name, dataset, str(len(ways)), **ways, **keys) for ways in (ACCUMULATED, DEALT))
    assert [event["step"] for event in told(dealt)] == [event["step"] for event in told(plain)] != []
    for one, other in zip(told(plain), told(dealt), strict=True):
        assert other.pop("metrics") == pytest.approx(one.pop("metrics"), rel=1e-5)
        assert {**other, "type": 0, "dataset": 0} == pytest.approx({**one, "type": 0, "dataset": 0}, rel=1e-5)
    weights, others = (load_file(run.run_dir / "adapter/adapter_model.safetensors") for run in (plain, dealt))
    for part, weight in weights.items():
        torch.testing.assert_close(others[part], weight, atol=1e-5, rtol=1e-4)


def test_noise_on_embeddings_is_drawn_for_the_rows_of_a_pass(stage: StageTrain) -> None:
    keys = {"neftune_noise_alpha": 5, "finetuning_type": "full", "learning_rate": 1e-9}
    silent, noisy = stage("sft", "talks", "silent", **DEALT), stage("sft", "talks", "noisy", **DEALT, **keys)
    assert noisy.losses[1] != pytest.approx(silent.losses[1], abs=1e-4)
    assert noisy.losses[1] == pytest.approx(silent.losses[1], rel=0.2)


def test_a_training_of_dealt_rows_resumes_exactly_within_an_epoch(stage: StageTrain) -> None:
    steps = {**DEALT, "save_steps": 3, "save_total_limit": 9}
    whole = stage("sft", "talks", "whole", **steps)
    hand_over(whole, 3)
    resumed = stage("sft", "talks", "resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-3")
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 3}


def told(run: Finished) -> list[dict[str, Any]]:
    """Steps and validations in their order, without what a clock says."""
    lines = (run.run_dir / "metrics.jsonl").read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["type"] in ("step", "eval")]
    return [{name: value for name, value in event.items() if name not in CLOCK} for event in events]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on, the CPU is taken for a device that goes on by itself."""
    return lambda: monkeypatch.setattr(figures, "LATE_ON", ("cpu",))


@pytest.mark.parametrize(
    "keys",
    [{}, {"logging_steps": 2}, {"save_steps": 2, "val_size": 3, "eval_steps": 3}],
    ids=["every step", "every second step", "saved and validated"],
)
def test_figures_that_are_read_late_are_the_same_in_the_same_order(
    stage: StageTrain, late: Callable[[], None], keys: dict[str, Any]
) -> None:
    at_once = stage("sft", "talks", "at once", **DEALT, **keys)
    late()
    assert told(stage("sft", "talks", "late", **DEALT, **keys)) == told(at_once) != []


def test_a_figure_is_told_when_the_next_step_has_begun(
    stage: StageTrain, late: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    begin, tell = Consensus.begin, Progress._log_step
    monkeypatch.setattr(Consensus, "begin", lambda self, *rest: (order.append("pass"), begin(self, *rest)))
    monkeypatch.setattr(Progress, "_log_step", lambda self, *rest: (order.append("told"), tell(self, *rest)))
    late()
    stage("sft", "talks", **{**ACCUMULATED, "gradient_accumulation_steps": 1, "max_steps": 3})
    assert order == ["pass", "pass", "told", "pass", "told", "told"]


def test_a_broken_loss_ends_the_training_before_another_step_is_made(
    stage: StageTrain, late: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *rest: (steps.append(1), step(self, *rest))[1])
    late()
    with pytest.raises(Diverged) as error:
        stage("sft", "talks", **{**DEALT, **BREAKING})
    assert error.value.facts["step"] == len(steps) < BREAKING["max_steps"]


def test_a_failure_leaves_no_step_untold(
    stage: StageTrain, late: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    computed = []
    compute = SupervisedTrainer.compute_loss

    def fail(self: SupervisedTrainer, *rest: Any, **keys: Any) -> Any:
        computed.append(1)
        if len(computed) == 6:  # the first pass of the third step
            raise torch.OutOfMemoryError
        return compute(self, *rest, **keys)

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", fail)
    late()
    with pytest.raises(torch.OutOfMemoryError):
        stage("sft", "talks", **DEALT)
    assert list(Finished(tmp_path / "run").losses) == [1, 2]


def test_a_stop_between_passes_leaves_no_step_untold(
    stage: StageTrain, late: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    passes = []
    begin = Consensus.begin

    def stop_within_the_third_step(self: Consensus, tokens: int, memory_gb: float) -> None:
        passes.append(tokens)
        if len(passes) == 9:  # the batches of a step are four, then two
            (tmp_path / "run/STOP").touch()
            while not self._requests.stop:
                time.sleep(0.01)
        begin(self, tokens, memory_gb)

    monkeypatch.setattr(Consensus, "begin", stop_within_the_third_step)
    late()
    run = stage("sft", "talks", **DEALT)
    assert list(run.losses) == [1, 2]
    assert len(passes) == 9
    assert passes[0] == 0, "the first pass of a step that needs three of four is empty"
    assert run.json("result.json")["stopped"]
    assert (run.run_dir / "checkpoints/checkpoint-2").is_dir()
