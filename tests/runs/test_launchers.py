"""Starting a run: once, quickly, and out of the reach of whoever started it."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from studio.config.load import dump
from studio.config.merge import MergeConfig
from studio.errors import AlreadyStarted, ConfigError, RunError
from studio.runs import launchers
from studio.runs.run import Run, State
from studio.settings import ROOT


def test_a_run_starts_once(begin):
    run = begin(["sleep", 60])
    with pytest.raises(AlreadyStarted, match=run.id):
        launchers.start(run)


@pytest.mark.parametrize("many", [2, 20])
def test_of_many_concurrent_starts_exactly_one_wins(prepare, fake_workers, cleared, until, many):
    run = prepare(["append", "starts.txt", "x"])
    fork = multiprocessing.get_context("fork")
    gate, answers = fork.Barrier(many), fork.Queue()
    processes = [fork.Process(target=_start, args=(run, gate, answers)) for _ in range(many)]
    for process in processes:
        process.start()
    assert sorted(answers.get(timeout=20) for _ in processes) == ["refused"] * (many - 1) + ["started"]
    for process in processes:
        process.join()
    until(lambda: run.state is State.COMPLETED)
    assert (run.path / "starts.txt").read_text() == "x\n"


def _start(run, gate, answers):
    gate.wait()
    try:
        launchers.start(run)
        answers.put("started")
    except AlreadyStarted:
        answers.put("refused")


def test_the_caller_keeps_no_child(begin, until):
    before = psutil.Process().children()
    run = begin(["touch", "ready"], ["sleep", 60])
    assert psutil.Process().children() == before
    until(lambda: (run.path / "ready").exists())
    assert run.state is State.RUNNING


def test_runs_outlive_the_killed_studio_and_any_other_process_takes_over(prepare, cleared, until):
    runs = [prepare(["touch", "ready"], ["heed"]) for _ in range(2)]
    words = [sys.executable, "-m", "tests.fakes.studio", *(str(run.path) for run in runs)]
    studio = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE)
    assert studio.stdout.readline() == b"started\n"
    until(lambda: all((run.path / "ready").exists() for run in runs))
    os.killpg(studio.pid, signal.SIGKILL)
    studio.communicate()
    assert [run.state for run in runs] == [State.RUNNING] * 2
    script = (
        "import sys; from pathlib import Path; from studio.runs.store import Store\n"
        "for run in Store(Path(sys.argv[1])).list(): print(run.state); run.stop()"
    )
    seen = subprocess.run(
        [sys.executable, "-c", script, str(runs[0].path.parent)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert seen.stdout.split() == ["running", "running"]
    until(lambda: [run.state for run in runs] == [State.STOPPED] * 2)


def test_a_run_that_cannot_be_launched_says_why(prepare, fake_workers):
    run = prepare()
    run.log.mkdir()
    with pytest.raises(RunError, match=r"could not be started.*log\.txt"):
        launchers.start(run)


def test_a_damaged_request_is_refused_before_the_claim(prepare, fake_workers):
    run = prepare()
    (run.path / "config.yaml").write_text("kind: train\ndataset: [")
    with pytest.raises(ConfigError):
        launchers.start(run)
    assert not (run.path / "CLAIM").exists()


def test_only_trainings_hold_the_devices(prepare, begin, fake_workers, cleared, until):
    training = begin()
    merge = prepare(config=MergeConfig(adapter_name_or_path="a"))
    launchers.start(merge)
    until(lambda: not training.is_active and not merge.is_active)
    assert (training.path / "DEVICES").exists()
    assert not (merge.path / "DEVICES").exists()


@pytest.mark.parametrize("kind", sorted(launchers.WORKERS))
def test_every_kind_has_a_worker_that_exists(kind):
    assert Path(ROOT, *launchers.WORKERS[kind].split(".")).with_suffix(".py").exists()


def test_a_nanny_is_told_the_very_directory(begin, until):
    run = begin(["describe"])
    until(lambda: not run.is_active)
    assert json.loads((run.path / "worker.json").read_text())["cmd"][-1] == str(run.path)
    assert Run(run.path.resolve()).config == run.config
    assert dump(run.config) == (run.path / "config.yaml").read_text()
