"""The checkpoints of a run in the Runs tab: listed, verified, and gone on from."""

from __future__ import annotations

import asyncio

import gradio as gr
import pytest

from studio.config.option import options
from studio.config.train import TrainConfig
from studio.errors import NotResumable
from studio.runs.run import Run
from studio.ui.context import Context
from studio.ui.tabs import runs_checkpoints
from tests.checkpoints import make_checkpoint


@pytest.fixture
def run(ctx: Context) -> Run:
    """A stopped training with two checkpoints."""
    run = ctx.store.create(TrainConfig(dataset=("identity",), max_steps=9))
    for step in (2, 4):
        make_checkpoint(run.path / "checkpoints" / f"checkpoint-{step}", step)
    run.request("STOP")
    return run


def cut(run: Run, step: int) -> str:
    """Take the end of a file of a checkpoint away; its name."""
    [path, *_] = sorted((run.path / "checkpoints" / f"checkpoint-{step}").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-3])
    return path.name


def test_they_are_listed_newest_first_with_what_is_wrong(ctx: Context, run: Run) -> None:
    name = cut(run, 4)
    told = runs_checkpoints.on_look(ctx, run.id, "")
    assert told is not None
    assert [each["step"] for each in told["checkpoints"]] == [4, 2]
    assert [name in each["problem"] for each in told["checkpoints"]] == [True, False]
    assert told["values"]["max_steps"] == 9
    assert runs_checkpoints.on_look(ctx, run.id, told["stamp"]) is None


def test_every_option_and_scope_that_is_offered_exists() -> None:
    declared = {option.key: option for option in options(TrainConfig)}
    assert set(runs_checkpoints.CHANGEABLE) <= set(declared)
    assert set(runs_checkpoints.SCOPES) == set(declared["resume_scope"].choices)


def test_sizes_are_verified_at_once_and_contents_file_by_file(ctx: Context, run: Run) -> None:
    quick = runs_checkpoints.on_verify(ctx, run.id, 4)
    assert quick["problems"] == []
    names = [name for name, _ in quick["files"]]
    weights = run.path / "checkpoints" / "checkpoint-4" / next(name for name in names if name.endswith(".safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    read = {name: asyncio.run(runs_checkpoints.on_read(ctx, run.id, 4, name))["whole"] for name in names}
    assert [name for name, whole in read.items() if not whole] == [weights.name]
    name = cut(run, 2)
    cut_short = runs_checkpoints.on_verify(ctx, run.id, 2)
    assert (name in cut_short["problems"][0], cut_short["files"]) == (True, [])


def test_one_that_is_gone_is_said_to_be(ctx: Context, run: Run) -> None:
    with pytest.raises(NotResumable, match="step 7 is gone"):
        runs_checkpoints.on_verify(ctx, run.id, 7)


def test_how_it_goes_on_is_judged_before_anything_is_created(ctx: Context, run: Run) -> None:
    assert runs_checkpoints.on_judge(ctx, run.id, 4, "all", {})["warnings"] == ()
    [warning] = runs_checkpoints.on_judge(ctx, run.id, 4, "all", {"max_steps": "12"})["warnings"]
    assert "max_steps" in warning
    with pytest.raises(NotResumable, match="last"):
        runs_checkpoints.on_judge(ctx, run.id, 4, "all", {"max_steps": "3"})
    assert ctx.store.list() == [run]


def test_it_goes_on_as_was_asked(ctx: Context, run: Run) -> None:
    asked = {"max_steps": "3", "dataset_dir": "/elsewhere"}
    with pytest.raises(gr.Error, match="last"):
        runs_checkpoints.on_resume(ctx, run.id, 4, "all", asked)
    assert ctx.store.list() == [run]
    new = ctx.store.get(runs_checkpoints.on_resume(ctx, run.id, 2, "weights", {**asked, "nproc_per_node": ""}))
    new.stop_now()
    config = new.config
    assert isinstance(config, TrainConfig)
    assert (config.resume_scope, config.max_steps, config.resumed_from) == ("weights", 3, run.id)
    assert config.dataset_dir == run.config.dataset_dir  # what the page does not offer is not changed by it


def test_what_belongs_to_the_old_strategy_is_left_behind(ctx: Context) -> None:
    own = {"deepspeed": '{"zero_optimization": {"stage": 2}}', "offload_optimizer": "cpu", "nproc_per_node": 2}
    run = ctx.store.create(TrainConfig(dataset=("identity",), max_steps=9, parallel_strategy="zero2", **own))
    parts = {"world_size": 2, "strategy": "zero2", "batch": 32}
    make_checkpoint(run.path / "checkpoints" / "checkpoint-4", 4, parts)
    run.request("STOP")
    asked = {"parallel_strategy": "single"}
    assert runs_checkpoints.LEFT_OUT in runs_checkpoints.on_judge(ctx, run.id, 4, "weights", asked)["warnings"]
    new = ctx.store.get(runs_checkpoints.on_resume(ctx, run.id, 4, "weights", asked))
    new.stop_now()
    config = new.config
    assert isinstance(config, TrainConfig)
    assert (config.deepspeed, config.offload_optimizer, config.nproc_per_node) == (None, "none", None)


def test_a_model_is_made_of_one_and_followed(ctx: Context, run: Run) -> None:
    for _ in ("a double", "click"):
        runs_checkpoints.on_consolidate(ctx, run.id, 4)
    [made] = ctx.store.list("consolidate")
    made.stop_now()
    told = runs_checkpoints.on_look(ctx, run.id, "")
    assert told is not None
    [line] = told["made"]
    assert (line["id"], line["name"], line["output"], told["makes"]) == (made.id, "identity step 4", "", "adapter")
    with pytest.raises(gr.Error, match="no checkpoint of step 7"):
        runs_checkpoints.on_consolidate(ctx, run.id, 7)


def test_a_run_without_any_is_not_asked_about_again(ctx: Context) -> None:
    assert runs_checkpoints.on_look(ctx, "gone", "") == {"none": True}
