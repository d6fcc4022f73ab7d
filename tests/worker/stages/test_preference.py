"""Preferences: every loss teaches, and is what its paper says, computed here from the models themselves."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.datasets.formats import Message, Preference
from studio.datasets.masking import Masking
from studio.errors import DatasetError, ModelError
from studio.runs import events
from studio.worker.columns import COLUMNS
from tests.worker.conftest import Finished, make_model, spawn, write_config
from tests.worker.stages.conftest import PAIRS, StageTrain
from tests.worker.test_training import hand_over

# all but discopop, whose loss drives answers that differ by nothing yet the wrong way at first
LOSSES = (
    "sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard",
    "aot", "apo_zero", "apo_down",
)  # fmt: skip
SMOOTHED = {"robust": 0.1, "exo_pair": 0.001}
ONCE = {"max_steps": 1, "per_device_train_batch_size": 12, "bf16": False, "finetuning_type": "full"}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_to_prefer(stage: StageTrain, loss: str) -> None:
    smoothing = {"dpo_label_smoothing": SMOOTHED[loss]} if loss in SMOOTHED else {}
    run = stage("dpo", "pairs", pref_loss=loss, max_steps=12, learning_rate=5e-3, **smoothing)
    first, *_, last = (event for event in run.events("step") if "rewards/margins" in event["metrics"])
    assert last["metrics"]["rewards/margins"] > first["metrics"]["rewards/margins"] + 0.05
    assert last["loss"] < first["loss"]


@pytest.mark.parametrize("loss", ["sigmoid", "orpo", "simpo"])
def test_validation_rows_tell_whether_it_is_learnt(stage: StageTrain, loss: str) -> None:
    run = stage("dpo", "pairs", pref_loss=loss, val_size=4, eval_steps=10, learning_rate=3e-3)
    first, last = run.events("eval")
    assert (first["step"], last["step"]) == (10, 20)
    assert last["eval_loss"] < first["eval_loss"]
    assert last["metrics"]["rewards/accuracies"] == 1
    assert last["metrics"]["rewards/margins"] > 0.05


def test_accumulated_batches_make_one_large_batch(stage: StageTrain, other_model: Path) -> None:
    for loss in ("sigmoid", "simpo"):
        keys = {**ONCE, "max_steps": 2, "learning_rate": 1e-4, "pref_loss": loss}
        large = stage("dpo", "pairs", f"{loss}-large", **keys)
        small = stage(
            "dpo", "pairs", f"{loss}-small", **keys | {"per_device_train_batch_size": 4}, gradient_accumulation_steps=3
        )
        norms = [[event["grad_norm"] for event in run.events("step")] for run in (large, small)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-3)
        assert list(large.losses.values()) == pytest.approx(list(small.losses.values()), abs=1e-5)


KEPT = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")


def assert_same(ours: Finished, theirs: Finished, names: tuple[str, ...] = KEPT, tolerance: float = 1e-5) -> None:
    """All that is told of the steps and of the validations, but for tokens and times."""
    for kind in ("step", "eval"):
        pairs = list(zip(ours.events(kind), theirs.events(kind), strict=True))
        for one, other in pairs:
            for name in {"loss", "eval_loss", "grad_norm"} & one.keys():
                assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), (kind, name)
            for name in names:
                found, expected = one["metrics"][name], other["metrics"][name]
                assert found == pytest.approx(expected, rel=10 * tolerance, abs=10 * tolerance), (kind, name)
    assert theirs.losses


WAYS: dict[str, dict[str, object]] = {
    "adapter": {"lora_rank": 8},
    "smoothed": {"finetuning_type": "full", "dpo_label_smoothing": 0.2},
    "tails": {"finetuning_type": "full", "ld_alpha": 0.3},
    "beside": {"pref_ftx": 0.7},
    "ipo": {"pref_loss": "ipo"},
    "hinge": {"pref_loss": "hinge"},
    "robust": {"pref_loss": "robust", "dpo_label_smoothing": 0.1},
    "recomputed": {"gradient_checkpointing": "on"},
}
FLAT = {"max_steps": 4, "bf16": False, "learning_rate": 1e-3, "val_size": 4, "eval_steps": 2}
WHAT = (*KEPT, "entropy")


@pytest.mark.parametrize("way", WAYS)
def test_without_padding_the_same_is_learnt(stage: StageTrain, other_model: Path, way: str) -> None:
    keys = {**FLAT, **WAYS[way]}
    if keys.get("finetuning_type") == "full":
        keys |= {"ref_model": str(other_model), "learning_rate": 1e-4}
    padded = stage("dpo", "uneven", "padded", **keys, flash_attn="sdpa")
    flat = stage("dpo", "uneven", "flat", **keys)
    assert_same(flat, padded, WHAT)
    assert flat.json("result.json")["tokens"] < padded.json("result.json")["tokens"]


@pytest.mark.parametrize("way", ["adapter", "beside", "ipo", "smoothed"])
def test_pairs_may_lie_in_any_passes(stage: StageTrain, way: str) -> None:
    keys = {**FLAT, **WAYS[way], "learning_rate": 1e-4, "val_size": 0, "eval_steps": None, "max_steps": 3}
    large = stage("dpo", "uneven", "large", **keys, per_device_train_batch_size=12)
    keys |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 6}
    for tokens in (100_000, 700):  # in one pass, and in several
        assert_same(stage("dpo", "uneven", f"dealt-{tokens}", **keys, micro_batch_tokens=tokens), large)


def test_pairs_that_are_ranked_among_each_other_stay_in_their_batches(stage: StageTrain) -> None:
    keys = {**FLAT, "pref_loss": "aot", "gradient_accumulation_steps": 2}
    plain, dealt = (stage("dpo", "uneven", name, **keys, **more) for name, more in DEALINGS.items())
    assert dealt.losses == plain.losses


def test_two_processes_learn_what_one_does(tmp_path: Path, tiny_model: Path, sets_dir: Path) -> None:
    keys = {"stage": "dpo", "dataset": ["uneven"], **FLAT, "eval_steps": 4, "save_steps": 0, "micro_batch_tokens": 900}
    shapes = {"one": {"per_device_train_batch_size": 4}, "two": {"parallel_strategy": "ddp"}}
    for name, more in shapes.items():
        write_config(tmp_path / name, "train", tiny_model, sets_dir, {"per_device_train_batch_size": 2, **keys, **more})
    workers = [spawn("train", tmp_path / "one"), spawn("launch", tmp_path / "two")]
    assert [worker.wait() for worker in workers] == [0, 0], "\n".join(worker.log for worker in workers)
    assert_same(workers[1], workers[0], tolerance=1e-4)


DEALINGS: dict[str, dict[str, int]] = {"plain": {}, "dealt": {"micro_batch_tokens": 100_000}}


class Policies:
    """The summed log-probabilities of all answers of `PAIRS` by a model: tensors over the pairs, and their lengths."""

    def __init__(self, folder: Path) -> None:
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
        model = model.float()
        rows = [
            Preference((Message("user", each["instruction"]),), *(Message("assistant", each[key]) for key in ANSWERS))
            for each in PAIRS
        ]
        pairs = list(COLUMNS["pair"].encode(enumerate(rows, 1), tokenizer, Masking(256)))
        sides = [[(pair.prompt_ids, getattr(pair, f"{key}_ids")) for pair in pairs] for key in ANSWERS]
        self.chosen, self.rejected = (torch.stack([_likelihood(model, *pair) for pair in side]) for side in sides)
        self.lengths = [torch.tensor([len(answer) for _, answer in side]) for side in sides]


ANSWERS = ("chosen", "rejected")


@torch.no_grad()
def _likelihood(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None]).sum()


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policies:
    return Policies(tiny_model)


@pytest.fixture(scope="module")
def held_to(other_model: Path) -> Policies:
    return Policies(other_model)


def test_losses_are_those_of_the_papers(
    stage: StageTrain, other_model: Path, policy: Policies, held_to: Policies
) -> None:
    better, worse = policy.chosen - held_to.chosen, policy.rejected - held_to.rejected
    delta = 0.3 * (better - worse)
    plain = -policy.chosen.sum() / policy.lengths[0].sum()
    blend = torch.sigmoid(delta / 0.05)
    means = better / policy.lengths[0] - worse / policy.lengths[1]
    cases = {
        "plain": ({}, -logsigmoid(delta).mean()),
        "smoothed": ({"dpo_label_smoothing": 0.2}, -(0.8 * logsigmoid(delta) + 0.2 * logsigmoid(-delta)).mean()),
        "beside": ({"pref_ftx": 0.7}, -logsigmoid(delta).mean() + 0.7 * plain),
        "discopop": ({"pref_loss": "discopop"}, (blend * (-delta).exp() - (1 - blend) * logsigmoid(delta)).mean()),
        "hinge": ({"pref_loss": "hinge"}, (1 - delta).relu().mean()),
        "ipo": ({"pref_loss": "ipo"}, (means - 1 / 0.6).square().mean()),
    }
    for name, (keys, expected) in cases.items():
        run = stage("dpo", "pairs", name, **ONCE, ref_model=str(other_model), pref_beta=0.3, **keys)
        assert run.losses[1] == pytest.approx(expected.item(), rel=1e-4), name
        assert run.events("step")[0]["metrics"]["rewards/margins"] == pytest.approx(delta.mean().item(), abs=1e-3)


def test_losses_without_a_reference_are_those_of_the_papers(stage: StageTrain, policy: Policies) -> None:
    better, worse = (sums / count for sums, count in zip((policy.chosen, policy.rejected), policy.lengths, strict=True))
    plain = -policy.chosen.sum() / policy.lengths[0].sum()
    odds = (better - worse) - (torch.log1p(-better.exp()) - torch.log1p(-worse.exp()))
    margin = 0.3 * (better - worse) - 0.4
    cases = {
        "orpo": ({}, plain - 0.3 * logsigmoid(odds).mean()),
        "simpo": ({"simpo_gamma": 0.4}, -logsigmoid(margin).mean()),
    }
    for name, (keys, expected) in cases.items():
        run = stage("dpo", "pairs", name, **ONCE, pref_loss=name, pref_beta=0.3, **keys)
        assert run.losses[1] == pytest.approx(expected.item(), rel=1e-4), name


def test_a_model_is_held_to_itself_before_the_training(stage: StageTrain) -> None:
    for method in ("full", "freeze", "lora"):
        run = stage("dpo", "pairs", method, finetuning_type=method, bf16=True, max_steps=4, learning_rate=3e-3)
        assert run.losses[1] == pytest.approx(math.log(2), abs=1e-4)
        assert run.losses[4] < 0.6


@pytest.mark.parametrize(
    ("kind", "dataset", "keys"),
    [
        ("dpo", "pairs", {"lora_dropout": 0.1}),
        ("dpo", "pairs", {"finetuning_type": "full", "learning_rate": 1e-4}),
        ("kto", "judged", {}),
        ("dpo", "uneven", {"gradient_accumulation_steps": 2, "micro_batch_tokens": 300}),
    ],
    ids=["dpo", "dpo full", "kto", "dpo dealt"],
)
def test_a_resumed_training_goes_on_exactly(
    stage: StageTrain, kind: str, dataset: str, keys: dict[str, object]
) -> None:
    # 12 rows in batches of 4 make 3 steps an epoch; the run is resumed in the second epoch and ends in the third
    steps = {"max_steps": 8, "save_steps": 4, "save_total_limit": 9, **keys}
    whole = stage(kind, dataset, "whole", **steps)
    target = hand_over(whole, 4)
    (whole.run_dir / "checkpoints/checkpoint-8").rename(target / "checkpoints/checkpoint-6")
    optimizer = target / "checkpoints/checkpoint-6/optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-50])  # damaged: passed over
    resumed = stage(kind, dataset, "resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-6")
    assert "checkpoint-6 is damaged" in resumed.notes
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 4}
    output = "model/model" if keys.get("finetuning_type") else "adapter/adapter_model"
    ours, theirs = (load_file(run.run_dir / f"{output}.safetensors") for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_adapter_that_is_gone_on_with_is_its_own_reference(stage: StageTrain) -> None:
    first = stage("dpo", "pairs", "first", max_steps=4, learning_rate=3e-3)
    steps = {"max_steps": 6, "save_steps": 3, "adapter_name_or_path": str(first.run_dir / "adapter")}
    whole = stage("dpo", "pairs", "whole", **steps)
    assert whole.losses[1] == pytest.approx(math.log(2), abs=1e-4)
    hand_over(whole, 3)
    resumed = stage("dpo", "pairs", "resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-3")
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 3}


def test_a_preference_training_saves_and_stops_when_asked(stage: StageTrain, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"

    def has(kind: str) -> bool:
        return any(event["type"] == kind for event in events.read(run_dir / "metrics.jsonl")[0])

    def ask() -> None:
        for happened, request in (("step", "SAVE"), ("checkpoint", "STOP")):
            while not has(happened):
                time.sleep(0.02)
            (run_dir / request).touch()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    run = stage("dpo", "pairs", max_steps=900)
    asking.join()
    result, checkpoints = run.json("result.json"), run.events("checkpoint")
    assert result["stopped"]
    assert result["steps"] == len(run.losses) < 900
    assert [event["step"] for event in checkpoints][-1] == result["steps"]
    assert len(checkpoints) == 2
    assert (run.run_dir / "adapter/adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "dataset", "words"),
    [
        ("dpo", "talks", r"row 1: is data for learning answers \(stage sft\), not for dpo: .* pairs of a chosen"),
        ("dpo", "judged", r"not for dpo: choose a dataset of pairs"),
        ("rm", "texts", r"is data for continued pre-training \(stage pt\), not for rm"),
        ("kto", "talks", r"not for kto: choose a dataset of answers judged good or bad, or pairs"),
        ("sft", "pairs", r"is data for preference training .* not for sft: choose a dataset of conversations"),
        ("pt", "judged", r"not for pt: choose a dataset of plain text or conversations"),
    ],
)
def test_a_dataset_of_another_purpose_is_refused(stage: StageTrain, kind: str, dataset: str, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        stage(kind, dataset)


def test_cut_rows_and_those_without_a_difference_are_told(stage: StageTrain) -> None:
    assert (
        "12 of 12 rows are longer than 16 tokens and were cut"
        in stage("dpo", "pairs", max_steps=1, cutoff_len=16).notes
    )
    with pytest.raises(DatasetError, match=r"12 of 12 rows left out: their two answers are the same up to cutoff_len"):
        stage("dpo", "alike", "alike", cutoff_len=48)


def test_a_reference_of_another_vocabulary_is_refused(stage: StageTrain, tmp_path: Path, tokenizer_dir: Path) -> None:
    foreign = make_model(tmp_path / "foreign", tokenizer_dir, vocab_size=400)
    with pytest.raises(ModelError, match="another vocabulary"):
        stage("dpo", "pairs", ref_model=str(foreign), finetuning_type="full")
