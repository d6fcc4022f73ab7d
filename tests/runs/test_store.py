"""The folder of all runs: create, list, find, resume, throw away."""

import json
import os
import subprocess
import sys

import pytest

from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.errors import NotResumable, PathError, RunError, RunNotFound
from studio.runs import events, launchers
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.runs.summary import summaries
from studio.settings import ROOT
from tests.checkpoints import make_checkpoint

CONFIG = TrainConfig(dataset="identity", run_name="first try")


def end(run, reason="completed"):
    (run.path / "exit.json").write_text(json.dumps({"code": 0, "signal": None, "reason": reason, "at": 1.0}))
    return run


def add_checkpoint(run, step, **state):
    return make_checkpoint(run.path / "checkpoints" / f"checkpoint-{step}", step, **state)


# create


def test_a_new_run_holds_its_request_and_waits(store):
    run = store.create(CONFIG)
    assert run.config == CONFIG
    assert run.state is State.QUEUED
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml"]
    assert run.id.endswith("-first-try")


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a\0b", "x" * 500, "模型 一", "..", "-rf", "a/../b", "\n"]
)
def test_no_name_leads_out_of_the_folder(store, name):
    run = store.create(TrainConfig(dataset="a", run_name=name))
    assert run.path.parent == store.saves
    assert len(run.id) < 200
    assert store.list() == [run]
    assert run.config.run_name == name


def test_a_run_that_cannot_be_written_leaves_nothing(small_disk):
    store = Store(small_disk / "saves")
    store.saves.mkdir()
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(2**20))
    with pytest.raises(OSError, match="No space"):
        store.create(CONFIG)
    assert list(store.saves.iterdir()) == []


def test_a_lister_never_meets_a_run_without_its_request(store):
    """Another process lists while runs are created."""
    script = (
        "import sys; from pathlib import Path; from studio.runs.store import Store\n"
        "store = Store(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while len(runs := store.list()) < 60: [run.config for run in runs]"
    )
    words = [sys.executable, "-c", script, str(store.saves)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as lister:
        assert lister.stdout.readline() == "ready\n"
        for _ in range(60):
            store.create(CONFIG)
        assert lister.wait(20) == 0, lister.stderr.read()


# list


def test_runs_are_listed_newest_first_and_by_kind(store):
    first, second = store.create(CONFIG), store.create(MergeConfig(adapter_name_or_path="a"))
    first.path.rename(first.path.with_name("20200101-000000-abcdef"))
    assert [run.kind for run in store.list()] == ["merge", "train"]
    assert store.list("merge") == [second]


def test_what_is_no_run_is_passed_over(store, tmp_path):
    assert store.list() == []
    run = store.create(CONFIG)
    (store.saves / "notes.txt").touch()
    (store.saves / "empty folder").mkdir()
    (store.saves / ".draft").mkdir()
    (store.saves / ".draft" / "config.yaml").touch()
    (store.saves / "linked").symlink_to(run.path)
    assert store.list() == [run]


def test_one_damaged_run_does_not_hide_the_others(store):
    good, bad, torn = (store.create(CONFIG) for _ in range(3))
    (bad.path / "config.yaml").write_text("lora_rank: many\n")
    (torn.path / "status.json").write_text('{"phase": "trai')
    assert set(store.list()) == {good, bad, torn}
    assert set(store.list("train")) == {good, torn}
    seen = {summary.id: summary for summary in summaries(store)}
    assert seen[bad.id].state == "damaged"
    assert "lora_rank" in seen[bad.id].message
    assert {seen[good.id].state, seen[torn.id].state} == {"queued"}
    assert store.twin(CONFIG, within_s=60) in (good, torn)
    assert Store(store.saves).trash(bad).exists()


def test_the_line_of_a_damaged_run_is_read_again_once_it_was_put_right(store):
    run = end(store.create(CONFIG))
    text = (run.path / "exit.json").read_text()
    (run.path / "exit.json").write_text(text[:9])
    assert [summary.state for summary in summaries(store)] == ["damaged"]
    (run.path / "exit.json").write_text(text)
    assert [summary.state for summary in summaries(store)] == ["completed"]


# find


def test_a_run_is_found_by_its_id_or_the_beginning_of_it(store):
    run = store.create(CONFIG)
    run = Run(run.path.rename(run.path.with_name("20260101-000000-aaaaaa")))
    store.create(CONFIG)
    assert store.get(run.id) == run
    assert store.get("20260101-000000-a") == run
    with pytest.raises(RunNotFound, match="several"):
        store.get("20")


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        " ",
        ".",
        "..",
        "../saves",
        "/etc",
        "a\0b",
        "x" * 5000,
        "nothing",
        ".trash",
        "../outside",
        "link",
        "*",
        "\ud800",
    ],
    ids=lambda run_id: ascii(run_id)[:20],
)
def test_no_other_id_is_a_run(store, tmp_path, run_id):
    store.create(CONFIG)
    outside = Store(tmp_path / "outside").create(CONFIG)
    (tmp_path / "outside" / "config.yaml").touch()
    (store.saves / "link").symlink_to(outside.path)
    with pytest.raises(RunNotFound):
        store.get(run_id)


def test_a_file_inside_a_run_is_no_run(store):
    run = store.create(CONFIG)
    with pytest.raises(RunNotFound):
        store.get(f"{run.id}/config.yaml")


def test_the_twin_is_the_same_request_made_a_moment_ago(store):
    assert store.twin(CONFIG, within_s=5) is None
    run = store.create(CONFIG)
    assert store.twin(CONFIG, within_s=5) == run
    assert store.twin(TrainConfig(dataset="other"), within_s=5) is None


def test_an_old_run_is_no_twin_however_busy_its_folder_is(store):
    run = store.create(CONFIG)
    os.utime(run.path / "config.yaml", (1e9, 1e9))
    (run.path / "status.json").touch()
    assert store.twin(CONFIG, within_s=5) is None


# resume


def test_resume_goes_on_from_the_last_checkpoint_with_its_curves(store):
    run = end(store.create(CONFIG), "stopped")
    add_checkpoint(run, 9)
    last = add_checkpoint(run, 20)
    (add_checkpoint(run, 25) / "model.safetensors").unlink()
    (run.path / "checkpoints" / "checkpoint-30").mkdir()  # not complete
    rows = [{"type": "step", "step": step, "loss": 1.0} for step in range(1, 26)]
    odd = [{"type": "note", "text": "old"}, {"type": "step", "step": None}, {"type": "future"}]
    events.write(run.metrics, [*rows, {"type": "checkpoint", "step": 20}, *odd])
    new = store.resume(run)
    assert new.config == CONFIG.model_copy(
        update={"resume_from_checkpoint": "checkpoints/checkpoint-20", "resumed_from": run.id}
    )
    assert new.state is State.QUEUED
    kept, _ = events.read(new.metrics)
    assert kept == [*rows[:20], {"type": "checkpoint", "step": 20}, {"type": "future"}]
    linked = new.path / "checkpoints" / "checkpoint-20"
    assert (linked / "deep" / "rng.pth").read_text() == "deep/rng.pth at 20"
    assert (linked / "model.safetensors").samefile(last / "model.safetensors")
    assert [path.name for path in new.checkpoints()] == ["checkpoint-9", "checkpoint-20"]


def test_checkpoints_before_the_chosen_one_come_along(store):
    run = end(store.create(CONFIG))
    for step in (3, 9, 12):
        add_checkpoint(run, step, best_global_step=3)
    new = store.resume(run, step=9)
    assert [path.name for path in new.checkpoints()] == ["checkpoint-3", "checkpoint-9"]
    assert new.config.resume_from_checkpoint == "checkpoints/checkpoint-9"


def test_what_is_changed_is_asked_of_the_new_run(store):
    run = end(store.create(CONFIG))
    add_checkpoint(run, 9)
    new = store.resume(run, scope="no_scheduler", learning_rate=3e-5)
    assert (new.config.learning_rate, new.config.resume_scope) == (3e-5, "no_scheduler")


def test_the_first_run_keeps_its_checkpoint_when_the_second_deletes_its_own(store):
    run = end(store.create(CONFIG))
    folder = add_checkpoint(run, 9)
    new = store.resume(run)
    for path in (new.path / "checkpoints" / "checkpoint-9").glob("*.*"):
        path.unlink()
    assert (folder / "model.safetensors").exists()


def test_a_resumed_run_can_be_resumed(store):
    run = end(store.create(CONFIG))
    add_checkpoint(run, 9)
    second = end(store.resume(run))
    add_checkpoint(second, 12)
    third = store.resume(second)
    assert third.config.resumed_from == second.id
    assert third.config.resume_from_checkpoint == "checkpoints/checkpoint-12"


def test_what_cannot_be_resumed_says_why(store):
    with pytest.raises(NotResumable, match="still queued"):
        store.resume(store.create(CONFIG))
    with pytest.raises(NotResumable, match="no complete checkpoint"):
        store.resume(end(store.create(CONFIG)))
    with pytest.raises(NotResumable, match="only trainings"):
        store.resume(end(store.create(MergeConfig(adapter_name_or_path="a"))))


def test_a_resume_that_fails_half_way_leaves_nothing(store):
    run = end(store.create(CONFIG))
    add_checkpoint(run, 9)
    run.metrics.mkdir()
    with pytest.raises(IsADirectoryError):
        store.resume(run)
    assert store.list() == [run]
    assert [path.name for path in store.saves.iterdir()] == [run.id]


# throw away


def test_trash_and_back(store):
    run = end(store.create(CONFIG))
    store.trash(run)
    assert store.list() == []
    assert [trashed.id for trashed in store.trashed()] == [run.id]
    assert store.restore(run.id) == run
    assert store.list() == [run]
    assert run.state is State.COMPLETED


def test_an_active_run_is_not_thrown_away(store, begin, until):
    run = begin(["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    with pytest.raises(RunError, match="is running: stop it"):
        store.trash(run)
    run.stop()
    until(lambda: not run.is_active)
    store.trash(run)


def test_a_run_that_never_started_can_be_stopped_and_thrown_away(store):
    run = store.create(CONFIG)
    with pytest.raises(RunError, match="queued"):
        store.trash(run)
    run.stop()
    store.trash(run)
    assert store.list() == []


def test_a_run_stopped_before_its_start_does_not_train(store, begin, prepare, until):
    run = prepare(["touch", "trained"])
    run.stop()
    launchers.start(run)
    until(lambda: run.exit)
    assert run.state is State.STOPPED
    assert not (run.path / "trained").exists()


@pytest.mark.parametrize("run_id", ["../x", "nothing", "", "/etc", "a\0b", ".."])
def test_nothing_else_comes_back_from_the_trash(store, run_id):
    store.trash(end(store.create(CONFIG)))
    with pytest.raises((RunNotFound, PathError)):
        store.restore(run_id)
