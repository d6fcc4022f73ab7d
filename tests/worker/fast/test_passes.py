"""Rows are dealt into as few passes as there is room for, and laid end to end."""

from __future__ import annotations

import pytest
import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from studio.worker.fast import passes

ROWS = [
    {"input_ids": [5, 6, 7], "labels": [5, 6, 7]},
    {"input_ids": [8, 9], "labels": [-100, 9]},
    {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, 3, -100, 5]},
]
PACKED = [
    {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, 6, 7, 8, 9], "seq_lengths": [3, 2]},
    {"input_ids": [1, 2, 3], "labels": [-100, 2, -100], "seq_lengths": [3]},
]


@pytest.mark.parametrize(
    ("lengths", "tokens", "at_most", "expected"),
    [
        ([10, 10, 10, 10], 40, 4, [[0, 1, 2, 3]]),
        ([10, 10, 10, 10], 39, 4, [[0, 2], [1, 3]]),
        ([30, 10, 20], 30, 3, [[0], [1, 2]]),
        ([90, 10, 10], 30, 3, [[0], [1, 2]]),
        ([20, 20, 20], 30, 2, [[0, 2], [1]]),  # more would not be told apart from the next step
        ([7], 4, 1, [[0]]),
        ([5, 5], 100, 8, [[0, 1]]),
    ],
    ids=["all at once", "one too many", "balanced", "too long", "too many", "one", "few"],
)
def test_rows_are_dealt(lengths: list[int], tokens: int, at_most: int, expected: list[list[int]]) -> None:
    assert passes.deal(lengths, tokens, at_most) == expected


def test_every_row_is_dealt_once_and_no_pass_holds_more_than_there_is_room_for() -> None:
    torch.manual_seed(0)
    for _ in range(50):
        lengths = torch.randint(1, 400, (16,)).tolist()
        dealt = passes.deal(lengths, 1024, 16)
        assert sorted(row for rows in dealt for row in rows) == list(range(16))
        assert max(sum(lengths[row] for row in rows) for rows in dealt) <= 1024
        assert len(dealt) <= sum(lengths) // 1024 + 2


@pytest.mark.parametrize("rows", [ROWS, PACKED], ids=["rows", "packed"])
def test_rows_are_laid_as_trl_lays_them(rows: list[passes.Row]) -> None:
    expected = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows)
    laid = passes.lay(rows)
    counted, targets = laid.pop("counted"), laid.pop("targets")
    labels = expected.pop("labels")[0]
    assert laid.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(laid[name], value, msg=name)
    assert counted.tolist() == ((labels[1:] != -100).nonzero()[:, 0]).tolist()
    assert targets.tolist() == labels[1:][counted].tolist()


def test_rows_may_have_nothing_to_learn() -> None:
    laid = passes.lay([{"input_ids": [1, 2], "labels": [-100, -100]}])
    assert laid["counted"].tolist() == laid["targets"].tolist() == []


def test_what_is_sent_is_what_arrives() -> None:
    sent = passes.send(passes.lay(ROWS), torch.device("cpu"))
    assert sent["input_ids"].tolist() == [[5, 6, 7, 8, 9, 1, 2, 3, 4, 5]]
    assert sent["max_length_q"] == 5


def test_a_batch_is_unpacked_as_it_was_packed() -> None:
    tensors = {
        **{name: each for name, each in passes.lay(ROWS).items() if torch.is_tensor(each)},
        "mask": torch.tensor([[True, False, True]]).T,
        "none": torch.empty(0, 3, dtype=torch.int64),
        "one": torch.tensor(2.5, dtype=torch.bfloat16),
    }
    packed, places = passes.pack(tensors)
    unpacked = passes.unpack(packed.clone(), places)
    assert unpacked.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(unpacked[name], tensor), name
        assert unpacked[name].dtype == tensor.dtype, name
        assert unpacked[name].storage_offset() * tensor.itemsize % passes.ALIGNMENT == 0, name
