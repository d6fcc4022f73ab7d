"""Batches that are filled up to a few sizes teach what they teach as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.worker.fast import Path, graphs, passes, room
from studio.worker.fast.graphs import Graphs
from studio.worker.fast.room import Room
from tests.worker.conftest import Train
from tests.worker.fast.test_attention import tiny
from tests.worker.fast.test_passes import PACKED, ROWS

STARTS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
NONE = 1 << 30  # passes before the first one is recorded


def laid(lengths: Sequence[int], learnt: float = 0.5) -> dict[str, Any]:
    """Rows of so many tokens, of which a share is learnt."""
    rows = [
        {"input_ids": [5] * n, "labels": [-100] * (n - round(n * learnt)) + [5] * round(n * learnt)} for n in lengths
    ]
    return passes.lay(rows)


@pytest.mark.parametrize(
    ("lengths", "most", "expected"),
    [
        ((50, 40), 9999, Room(128, 8, 64, 256)),
        ((1000, 1000, 1248), 9999, Room(3328, 8, 1664, 1536)),
        ((3, 1000), 1020, Room(1020, 8, 510, 1024)),
        ((300, 1000), 1020, Room(1344, 8, 672, 1024)),
        ((200,) * 9, 9999, Room(1856, 12, 928, 256)),
        ((4096,), 4096, Room(4096, 8, 2048, 4096)),
    ],
    ids=["few", "many", "no more than there may be", "unless there are", "rows", "full"],
)
def test_a_room_is_a_little_larger(lengths: tuple[int, ...], most: int, expected: Room) -> None:
    assert room.needed(laid(lengths), most, 16) == expected


def test_there_are_few_rooms_and_little_is_in_vain() -> None:
    for fineness in graphs.FINENESS:
        rooms = {tokens: room.needed(laid([tokens - 100, 100]), 1 << 20, fineness) for tokens in range(1024, 8192, 7)}
        assert len({each.tokens for each in rooms.values()}) <= 3 * fineness + 1
        shares = [each.tokens / tokens for tokens, each in rooms.items()]
        assert min(shares) >= 1
        assert max(shares) < 1 + 1.1 / fineness


@pytest.mark.parametrize("rows", [ROWS, PACKED], ids=["rows", "packed"])
def test_what_was_fit_has_the_size_of_the_room(rows: list[passes.Row]) -> None:
    batch = passes.lay(rows)
    wanted = room.needed(batch, 9999, 16)
    filled = room.fit(batch, wanted)
    assert room.of(filled) == wanted
    own = batch["input_ids"].shape[1]
    assert filled[room.PADDING] == wanted.tokens - own
    assert filled["input_ids"][0, :own].tolist() == batch["input_ids"][0].tolist()
    starts = filled["cu_seq_lens_q"].tolist()
    assert starts[: len(batch["cu_seq_lens_q"])] == batch["cu_seq_lens_q"].tolist()
    assert set(starts[len(batch["cu_seq_lens_q"]) :]) == {wanted.tokens}
    wider = room.widest(filled, 3 * room.SHORTEST + 50)
    again = room.fit(filled, wider)
    assert room.of(again) == wider
    assert again[room.PADDING] == wider.tokens - own


@pytest.mark.parametrize(
    "wrong", [Room(24, 8, 24, 256), Room(3000, 8, 3000, 256), Room(99, 8, 9, 256), Room(99, 8, 99, 16)]
)
def test_what_does_not_fit_in_is_refused(wrong: Room) -> None:
    """Too few tokens, too few rows to fill it up, too few that are counted, a row that is too long."""
    with pytest.raises(ValueError, match="does not fit"):
        room.fit(laid([30]), wrong)


@settings(max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=20),
    most=st.integers(900, 6000),
    longest=st.sampled_from([0, 512, 4096]),
    fineness=st.sampled_from(graphs.FINENESS),
)
def test_no_row_that_fills_up_is_longer_than_is_told(
    lengths: list[int], most: int, longest: int, fineness: int
) -> None:
    batch = laid(lengths)
    once = room.fit(batch, room.needed(batch, most, fineness, longest))
    for filled in (once, room.fit(once, room.widest(once, most)), room.fit(once, room.widest(once, 2 * most))):
        starts = filled["cu_seq_lens_q"]
        assert starts[-1] == filled["input_ids"].shape[1] == filled["position_ids"].shape[1]
        assert len(filled["targets"]) == len(filled["counted"])
        assert starts.diff().min() >= 0
        assert starts.diff().max() <= filled["max_length_q"]
        assert starts.tolist()[: 1 + len(lengths)] == batch["cu_seq_lens_q"].tolist()
        assert filled[room.PADDING] == filled["input_ids"].shape[1] - sum(lengths)


def test_sizes_that_come_often_are_recorded_one_by_one() -> None:
    """Coarse ones first; until then a batch goes into what there is, and without memory for good."""
    made = Graphs(lambda *_: (), [torch.nn.Parameter(torch.zeros(1))], torch.device("cpu"), most=6000)
    made._has_memory = lambda: made_room  # type: ignore[method-assign]
    batches = [laid([tokens - 900, 900]) for tokens in (2100, 2900, 3400, 2150)]
    assert [made.room(each).tokens for each in batches] == [2176, 2944, 3456, 2176]
    made.path = Path(graphs.PART, graphs.WAY)
    made._made = {(room.widest(batches[0], 6000), True): None}  # type: ignore[dict-item]
    made_room = False
    assert {made.room(batches[0]).tokens for _ in range(50)} == {6000}
    made_room, chosen = True, []
    for _ in range(200):
        for each in batches:
            chosen.append(made.room(each))
            made._made[chosen[-1], True] = None  # type: ignore[assignment]
    assert [each.tokens for each in chosen[:4]] == [2560, 3072, 3584, 2560]
    assert [each.tokens for each in chosen[-4:]] == [2176, 2944, 3456, 2176]


@pytest.mark.parametrize("rows", [ROWS, PACKED], ids=["rows", "packed"])
def test_a_model_says_the_same_of_what_was_there(rows: list[passes.Row]) -> None:
    model = tiny("llama")
    batch = passes.lay(rows)
    filled = room.fit(batch, room.needed(batch, 9999, 16))
    told, wanted = (
        model(**{name: each[name] for name in ("input_ids", "position_ids", *STARTS)}, use_cache=False).logits
        for each in (filled, batch)
    )
    torch.testing.assert_close(told[:, : wanted.shape[1]], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "keys",
    [{}, {"finetuning_type": "full"}, {"use_dft_loss": True}, {"packing": True, "cutoff_len": 90}, {"stage": "pt"}],
    ids=["adapter", "full", "dft", "packed", "text"],
)
def test_filled_batches_teach_the_same(train: Train, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]) -> None:
    given = {
        **{"max_steps": 6, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "learning_rate": 1e-3},
        **{"micro_batch_tokens": 300, "val_size": 4, "eval_steps": 3, "flash_attn": "varlen", **keys},
    }
    plain = train("plain", **given)
    monkeypatch.setattr(graphs, "obstacle", lambda *_: "")
    monkeypatch.setattr(graphs, "WARM_UP", NONE)
    filled = train("filled", **given)
    assert list(filled.losses.values()) == pytest.approx(list(plain.losses.values()), rel=1e-4)
    assert filled.json("result.json")["tokens"] == plain.json("result.json")["tokens"]
    for ours, theirs in zip(filled.events("step"), plain.events("step"), strict=True):
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-3)


def test_only_what_would_be_the_same_again_is_recorded(train: Train) -> None:
    run = train(max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=4, micro_batch_tokens=300)
    assert "launching" not in run.json("result.json")["paths"]  # on a CPU nothing can be


def test_what_fills_up_is_no_farther_on_than_the_model_knows() -> None:
    """Positions that are learnt have an end, which is no power of two for every model."""
    model = tiny("opt", max_position_embeddings=300)
    batch = laid([290] * 7 + [20])
    filled = room.fit(batch, room.needed(batch, 9999, 4))
    assert filled[room.PADDING] > 300
    model(**{name: filled[name] for name in ("input_ids", "position_ids", *STARTS)}, use_cache=False)
    assert filled["position_ids"].max() == batch["position_ids"].max()
