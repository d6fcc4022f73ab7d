"""What a training said beside its curves, read from real event files."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.runs import events, remarks


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    events.append(path, events.Sample(0, "Who?", "Nobody, says the sample.", 0.0))
    for step in range(1, 600):
        events.append(path, events.Step(step, 0.5, 1e-4, 1, 9, 5, 0, 1, 0.0, {"kl": step / 100}))
    events.append(path, events.Eval(599, 0.25, 0.0, metrics={"kl": 2.0}))
    events.append(path, events.Note("warning", "A note.", 0.0))
    return path


def test_samples_and_notes_are_found_among_many_steps(metrics: Path) -> None:
    told = remarks.since(metrics, 0)
    assert told["samples"] == [{"step": 0, "prompt": "Who?", "answer": "Nobody, says the sample."}]
    assert told["notes"] == [{"level": "warning", "text": "A note."}]
    assert remarks.since(metrics, told["cursor"]) == {"cursor": told["cursor"], "samples": [], "notes": []}


def test_an_unfinished_line_waits_and_a_torn_one_is_passed_over(metrics: Path) -> None:
    before = remarks.since(metrics, 0)["cursor"]
    with open(metrics, "ab") as file:
        file.write(b'{"type": "sample", "st\n{"type": "sample", "step": 7, "prompt": "p", "ans')
    torn = remarks.since(metrics, before)
    assert torn["samples"] == []
    with open(metrics, "ab") as file:
        file.write(b'wer": "a"}\n')
    assert remarks.since(metrics, torn["cursor"])["samples"] == [{"step": 7, "prompt": "p", "answer": "a"}]


def test_the_figures_that_a_run_ended_with(metrics: Path, tmp_path: Path) -> None:
    assert metrics.stat().st_size > remarks.LAST_BYTES  # only its end is read
    assert remarks.last_figures(metrics) == {"kl": 5.99, "eval_loss": 0.25, "eval_kl": 2.0}
    assert remarks.last_figures(tmp_path / "none.jsonl") == {}


def test_sets_that_are_validated_by_themselves_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    events.append(path, events.Eval(1, 9.0, 0.0, "identity", {}))
    for name, loss in (("identity", 0.5), ("alpaca", 0.75)):
        events.append(path, events.Eval(2, loss, 0.0, name, {"kl": loss}))
    expected = {"loss identity": 0.5, "kl identity": 0.5, "loss alpaca": 0.75, "kl alpaca": 0.75}
    assert remarks.last_figures(path) == {f"eval_{name}": value for name, value in expected.items()}
