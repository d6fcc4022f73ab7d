"""Events in and out of metrics.jsonl."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.runs import events
from studio.runs.events import Checkpoint, Eval, Note, Sample, Step

STEP = Step(
    step=3, loss=1.5, learning_rate=1e-4, grad_norm=0.5, tokens=99, tokens_per_s=10.0, epoch=0.1, memory_gb=0.0, at=7.0
)
ALL = (
    STEP,
    Eval(step=3, eval_loss=2.0, at=8.0, metrics={"perplexity": 7.4}),
    Sample(3, "Who are you?", "Sprout", 8.5),
    Checkpoint(3, "checkpoints/checkpoint-3", 9.0),
    Note("info", "好", 1.0),
)


def test_events_come_back_in_order_and_by_cursor(tmp_path):
    path = tmp_path / "metrics.jsonl"
    events.append(path, ALL[0])
    first, cursor = events.read(path)
    for event in ALL[1:]:
        events.append(path, event)
    rest, end = events.read(path, cursor)
    assert [row["type"] for row in first + rest] == ["step", "eval", "sample", "checkpoint", "note"]
    assert rest[-1]["text"] == "好"
    assert events.read(path, end) == ([], end)


def test_a_loss_that_is_not_finite_becomes_null_with_a_flag(tmp_path):
    path = tmp_path / "metrics.jsonl"
    events.append(path, Step(**{**vars(STEP), "loss": math.nan, "grad_norm": math.inf}))
    (row,), _ = events.read(path)
    assert (row["loss"], row["grad_norm"]) == (None, None)
    assert row["not_finite"] == ["grad_norm", "loss"]


@pytest.mark.parametrize("damage", ["{", "null", "[1,2]", "7", "", '{"type":"st{"type":"step"}', "\x00\x00"])
def test_a_damaged_line_costs_only_itself(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"type":"eval","step":1}}\n{damage}\n{{"type":"eval","step":2}}\n')
    rows, _ = events.read(path)
    assert [row["step"] for row in rows] == [1, 2]


@given(st.binary())
def test_parse_never_fails(data):
    assert all(isinstance(row, dict) for row in events.parse(data))
    events.parse_points(data)


def test_write_is_read_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [json.loads(json.dumps(vars(event))) for event in ALL]
    events.write(path, rows)
    assert events.read(path)[0] == rows
