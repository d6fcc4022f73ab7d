"""Thinning never drops a spike, never moves a point, and stays within its budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.runs import curves, events
from studio.runs.events import Eval, Step


def write(path: Path, losses: list[Any], start: int = 1) -> None:
    with path.open("a") as file:
        for step, loss in enumerate(losses, start):
            file.write(json.dumps({"type": "step", "step": step, "loss": loss, "learning_rate": 1e-4}) + "\n")


def step(number: int, **metrics: float) -> Step:
    return Step(number, 1.0, 1e-4, 0.5, 99, 10.0, 0.1, 0.0, 7.0, metrics)


def test_a_spike_survives(tmp_path: Path) -> None:
    losses = [1.0] * 50_000
    losses[31_234] = 99.0
    losses[40_001] = -5.0
    write(tmp_path / "m", losses)
    steps, values = curves.overview(tmp_path / "m")["series"]["loss"]
    assert len(steps) <= 1.3 * curves.BUDGET
    assert values[steps.index(31_235)] == 99.0
    assert values[steps.index(40_002)] == -5.0
    assert steps[-1] == 50_000


def test_drawn_points_stay_while_the_run_grows(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path, [float(i * 7919 % 1000) for i in range(3000)])
    before = curves.overview(path)
    write(path, [500.0] * 200, start=3001)
    after = curves.overview(path)
    assert before["stride"] == after["stride"]
    whole_bins = 3000 // before["stride"] * before["stride"]
    kept = [step for step in before["series"]["loss"][0] if step <= whole_bins]
    assert set(kept) <= set(after["series"]["loss"][0])


def test_short_runs_are_drawn_whole_with_gaps_for_nan(tmp_path: Path) -> None:
    write(tmp_path / "m", [1.0, None, 3.0])
    overview = curves.overview(tmp_path / "m")
    assert overview["series"]["loss"] == [[1, 2, 3], [1.0, None, 3.0]]
    assert overview["stride"] == 1


def test_empty_and_missing(tmp_path: Path) -> None:
    assert curves.overview(tmp_path / "none")["cursor"] == 0
    assert curves.since(tmp_path / "none", 0)["series"] == {}


def test_damaged_line_and_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path, [1.0, 2.0])
    with path.open("a") as file:
        file.write('{"type":"step","st\n')
        file.write('{"type":"step","step":4,"loss":4.0}\n{"type":"step","step":5')
    overview = curves.overview(path)
    assert overview["series"]["loss"][0] == [1, 2, 4]
    with path.open("a") as file:
        file.write(',"loss":5.0}\n')
    assert curves.since(path, overview["cursor"])["series"]["loss"] == [[5], [5.0]]


def test_each_metric_is_a_series_of_its_own(tmp_path: Path) -> None:
    events.append(tmp_path / "m", step(1, kl=0.1))
    events.append(tmp_path / "m", step(2))  # as an older studio wrote it
    events.append(tmp_path / "m", step(3, kl=0.3, reward=1.0))
    events.append(tmp_path / "m", Eval(3, 2.0, 0.0, metrics={"perplexity": 7.4}))
    events.append(tmp_path / "m", Eval(3, 2.0, 0.0, "news", {"perplexity": 9.9}))
    for series in (curves.overview(tmp_path / "m")["series"], curves.since(tmp_path / "m", 0)["series"]):
        assert series["kl"] == [[1, 3], [0.1, 0.3]]
        assert series["reward"] == [[3], [1.0]]
        assert series["eval_perplexity"] == [[3], [7.4]]
        assert series["eval_perplexity news"] == [[3], [9.9]]
        assert series["eval_loss"] == series["eval_loss news"] == [[3], [2.0]]


def test_a_spike_of_a_metric_survives(tmp_path: Path) -> None:
    with (tmp_path / "m").open("w") as file:
        for number in range(1, 5001):
            metrics = {"kl": 9.0 if number == 3456 else 0.1}
            file.write(json.dumps({"type": "step", "step": number, "loss": 1.0, "metrics": metrics}) + "\n")
    steps, values = curves.overview(tmp_path / "m")["series"]["kl"]
    assert len(steps) <= 1.3 * curves.BUDGET
    assert values[steps.index(3456)] == 9.0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(8, 64))
def test_extremes_are_always_kept(tmp_path_factory: pytest.TempPathFactory, losses: list[float], budget: int) -> None:
    path = tmp_path_factory.mktemp("curves") / "m"
    write(path, losses)
    _, values = curves.overview(path, budget)["series"]["loss"]
    assert max(values) == pytest.approx(max(losses), rel=1e-4)
    assert min(values) == pytest.approx(min(losses), rel=1e-4)
