"""What those who answer are called."""

from __future__ import annotations

from studio.arena.contestants import names
from studio.config.train import TrainConfig
from studio.runs.store import Store
from studio.settings import ASSETS


def test_a_run_gives_its_name_to_what_it_made(tmp_path):
    store = Store(tmp_path)
    run = store.create(TrainConfig(dataset=("identity",), run_name="fern"))
    picks = [
        str(run.path / "adapter"), str(run.path / "checkpoints" / "checkpoint-20"), "url:oak",
        str(ASSETS / "seedling"), "/models/some-model", "org/model",
    ]  # fmt: skip
    assert list(names(store, picks).values()) == [
        "fern", "fern · checkpoint-20", "oak", "seedling", "some-model", "org/model",
    ]  # fmt: skip


def test_two_of_the_same_name_are_told_apart(tmp_path):
    store = Store(tmp_path)
    runs = [store.create(TrainConfig(dataset=("identity",), run_name="fern")) for _ in range(2)]
    made = {str(run.path / "adapter"): f"fern · {run.id}" for run in runs}
    folders = {"/a/x": "/a/x", "/b/x": "/b/x", "/b/y": "y"}
    assert names(store, [*made, *folders]) == made | folders
