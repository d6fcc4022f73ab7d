"""Real trainings of a tiny model, from run directory to adapter."""

from __future__ import annotations

from tests.worker.conftest import Start


def test_a_training_leaves_an_adapter_and_its_figures(start: Start) -> None:
    worker = start()
    assert worker.wait() == 0, worker.log
    assert worker.json("result.json")["steps"] == 6
