"""What a training asks of its device before it begins, from the rows and the memory that are there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM

from studio import models
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.models import folder_of
from studio.planning.batch import Lengths
from studio.planning.memory import CUDA_CONTEXT_GB
from studio.planning.passes import Course, Passes
from studio.worker import needs
from studio.worker.fast import attention
from studio.worker.mixing import Rows
from studio.worker.ranks import Rank
from tests.worker.conftest import Train


def of(*rows: dict[str, Any]) -> Rows:
    return Rows(Dataset.from_list(list(rows)), None, [], (rows[0], rows[-1]), cutoff_len=64)


SEQUENCES = of({"input_ids": [1] * 10, "labels": [1] * 10}, {"input_ids": [7] * 30, "labels": [1] * 30})
PAIRS = of(
    {"prompt_ids": [1] * 5, "chosen_ids": [2] * 10, "rejected_ids": [3] * 20},
    {"prompt_ids": [1] * 6, "chosen_ids": [2] * 9, "rejected_ids": [300] * 2},
)


@pytest.mark.parametrize(
    ("data", "lengths", "largest"), [(SEQUENCES, Lengths(30, 20), 7), (PAIRS, Lengths(25, 20), 300)]
)
def test_lengths_and_tokens_are_read_off_the_rows(data: Rows, lengths: Lengths, largest: int) -> None:
    assert needs.lengths(data) == lengths
    needs.check_tokens(data, largest + 1)
    with pytest.raises(needs.TokenizerMismatch, match=rf"token {largest}, but the model knows only {largest} tokens"):
        needs.check_tokens(data, largest)


def test_of_a_stream_only_the_beginning_is_known() -> None:
    rows = SEQUENCES.train.to_list()
    stream = Rows(IterableDataset.from_generator(lambda: iter(rows)), None, [], SEQUENCES.ends, cutoff_len=64)
    assert needs.lengths(stream) == Lengths(64, 64)
    with pytest.raises(needs.TokenizerMismatch, match="token 7"):
        needs.check_tokens(stream, 7)


def test_what_is_configured_is_done_and_else_what_memory_needs() -> None:
    folder = folder_of("seedling")
    assert folder
    model = AutoModelForCausalLM.from_pretrained(folder)

    def found(**keys: Any) -> Course:
        config = parse(TrainConfig, {"dataset": "a", **keys})
        return needs.course(config, models.check(folder), model, SEQUENCES, Rank())

    for given, layers in (("on", 6), ("off", 0), (None, 0), ("selective", 0)):
        assert found(gradient_checkpointing=given).passes == Passes(None, layers)
    assert found(micro_batch_tokens=64).passes == Passes(64, 0)
    large = {"per_device_train_batch_size": 4096, "packing": True}
    assert found(**large).passes == Passes(None, 6)


def test_what_the_loaded_model_computes_by_counts_and_not_what_was_to_be_expected() -> None:
    folder = folder_of("seedling")
    assert folder
    config = parse(TrainConfig, {"dataset": "a", "per_device_train_batch_size": 8})
    masked, flat = (AutoModelForCausalLM.from_pretrained(folder, attn_implementation=way) for way in ways())
    plain, lean = (
        needs.course(config, models.check(folder), model, SEQUENCES, Rank()).memory for model in (masked, flat)
    )
    assert plain.activations > lean.activations


def ways() -> tuple[str, str]:
    attention.register()
    return "sdpa", attention.NAME


def test_a_training_tells_its_device(train: Train) -> None:
    assert train(max_steps=1, save_steps=0).json("result.json")["device"] == needs.own_machine().device


@pytest.mark.parametrize(("visible", "place", "index"), [("", 0, 0), ("2,5", 1, 5), ("GPU-1a2b", 0, 0), ("3", 1, 1)])
def test_a_gpu_has_the_number_that_the_driver_gives_it(
    monkeypatch: pytest.MonkeyPatch, visible: str, place: int, index: int
) -> None:
    """Without one: what torch says of its place is made up."""
    free, total = 30 * 10**9, 80 * 10**9
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name, answer in {
        "is_available": True,
        "current_device": place,
        "get_device_name": "H100",
        "mem_get_info": (free, total),
        "memory_reserved": 14 * 10**9,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    gpu = needs.own_machine().gpu
    assert gpu is not None
    assert (gpu.index, gpu.total, gpu.free / 10**9) == (index, total, pytest.approx(30 + 14 + CUDA_CONTEXT_GB))
