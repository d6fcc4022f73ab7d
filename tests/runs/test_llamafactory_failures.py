"""The failures that LLaMA-Factory's page was seen to have, by their number in the study, each made impossible here.

Those of the form, the worker, the data and the model server stand with their rooms.
"""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest

from studio.config.command import command
from studio.config.load import overrides, parse
from studio.config.option import options
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.errors import AlreadyStarted, ConfigError, RunError
from studio.runs import events, launchers
from studio.runs.process import Identity
from studio.runs.run import State
from studio.runs.store import Store
from studio.runs.summary import summaries
from studio.settings import ROOT


def steps_of(*numbers):
    return [["append", "metrics.jsonl", f'{{"type":"step","step":{number},"loss":1.0}}'] for number in numbers]


def test_1_a_run_is_no_orphan_after_the_studio_restarts(prepare, cleared, until):
    """The trainer went on, and the new page knew nothing of it."""
    run = prepare(["touch", "ready"], *steps_of(1, 2), ["await_file", "go"], *steps_of(3))
    words = [sys.executable, "-m", "tests.fakes.studio", str(run.path)]
    studio = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    until(lambda: len(events.read(run.metrics)[0]) == 2)
    os.killpg(studio.pid, signal.SIGKILL)
    studio.wait()
    (found,) = Store(run.path.parent).list()
    assert found.state is State.RUNNING
    seen, cursor = events.read(found.metrics)
    (run.path / "go").touch()
    until(lambda: found.state is State.COMPLETED)
    seen += events.read(found.metrics, cursor)[0]
    assert [row["step"] for row in seen] == [1, 2, 3]


def test_2_no_second_trainer_in_one_run_directory(begin, until):
    """Start beside an orphan launched another one into the same folder."""
    run = begin(["append", "starts.txt", "x"], ["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    os.kill(_nanny_pid(run), signal.SIGKILL)
    until(lambda: not run.process_alive("nanny"))
    with pytest.raises(AlreadyStarted):
        launchers.start(run)
    with pytest.raises(RunError, match="stop it first"):
        Store(run.path.parent).resume(run)
    assert (run.path / "starts.txt").read_text() == "x\n"


def test_4_a_run_that_ends_while_nobody_looks_is_over(begin, until):
    """Nobody reaped the child, "running" stuck, and the next start was refused."""
    run = begin()
    until(lambda: not psutil.pid_exists(_nanny_pid(run)) if (run.path / "exit.json").exists() else False)
    assert run.state is State.COMPLETED
    following = begin()
    until(lambda: following.state is State.COMPLETED)


def test_5_a_waiting_run_is_seen_and_can_be_cancelled(store, begin, until):
    """The second user's start waited out of sight and began by itself later."""
    begin(["sleep", 60])
    second = begin(wait=True)
    assert next(line.state for line in summaries(store) if line.id == second.id) == "queued"
    second.stop()
    until(lambda: second.state is State.STOPPED)


def test_6_a_worker_deep_in_tokenising_can_be_stopped_at_once(begin, until):
    """Abort was a flag that nobody looked at: 37 s. With child processes, as a parallel map has."""
    run = begin(["deaf"], ["spawn"], ["spawn", {}], ["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    run.stop_now()
    until(lambda: run.state is State.STOPPED)
    pids = (run.path / "spawned.txt").read_text().split()
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


@pytest.mark.parametrize("how", ["stop", "stop_now"])
def test_7_a_stopped_run_never_reads_as_finished(begin, until, how):
    """The log box said "Finished." """
    run = begin(["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    getattr(run, how)()
    until(lambda: not run.is_active)
    assert run.state is State.STOPPED


@pytest.mark.parametrize("code", [0, 1, 10])
def test_8_a_missing_result_wedges_nothing(begin, until, code):
    """Exit code 0 without all_results.json: every later start was refused."""
    run = begin(["leave", code])
    until(lambda: not run.is_active)
    assert (run.result, run.output) == ({}, None)
    following = begin()
    until(lambda: following.state is State.COMPLETED)


def test_9_a_half_written_line_waits_for_its_end(begin, until):
    """It ended the monitor for good."""
    run = begin(*steps_of(1), ["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    with open(run.metrics, "a") as file:
        file.write('{"type":"step","st')
        file.flush()
        seen, cursor = events.read(run.metrics)
        assert [row["step"] for row in seen] == [1]
        file.write('ep":2}\n')
    assert [row["step"] for row in events.read(run.metrics, cursor)[0]] == [2]


def test_10_any_number_of_watchers_see_the_same_end(begin, until):
    """One of two pages crashed when the run ended."""
    run = begin(*steps_of(1), ["sleep", 0.5], *steps_of(2))
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    watchers = [fork.Process(target=_watch, args=(run, answers)) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    seen = [answers.get(timeout=20) for _ in watchers]
    for watcher in watchers:
        watcher.join()
    assert seen == [("completed", [1, 2])] * 4


def _watch(run, answers):
    found, cursor = [], 0
    while True:
        state = run.state
        rows, cursor = events.read(run.metrics, cursor)
        found += [row["step"] for row in rows]
        if state not in (State.QUEUED, State.RUNNING):
            return answers.put((str(state), found))
        time.sleep(0.001)


def test_11_a_worker_that_a_hangup_ends_has_failed(begin, until):
    """A return code of -1 was the sentinel for "still running": an endless hot loop."""
    run = begin(["crash", int(signal.SIGHUP)])
    until(lambda: run.state is State.FAILED)
    assert run.exit["signal"] == signal.SIGHUP
    assert "SIGHUP" in run.reason


def test_12_runs_made_by_hand_or_by_another_version_are_listed(store, prepare):
    """Choosing one crashed the page."""
    run = prepare()
    by_hand = run.path.rename(store.saves / "my experiment")
    newer, foreign = prepare(), prepare()
    (newer.path / "config.yaml").write_text("schema_version: 2\nkind: train\n")
    (foreign.path / "config.yaml").write_text("stage: sft\nuse_magic: true\n")
    lines = {line.id: line for line in summaries(store)}
    assert lines[by_hand.name].state == "queued"
    assert "another version" in lines[newer.id].message
    assert "use_magic: there is no such option" in lines[foreign.id].message


@pytest.mark.parametrize(
    "words", [["learning_rate=abc"], ["max_samples=1e5x"], ["lora_rank=0", "seed=-1", "packing=2"]]
)
def test_13_bad_input_is_explained_before_any_process_starts(words):
    """A raw exception, after a subprocess had imported torch."""
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, {"dataset": "identity", **overrides(words)})
    assert {problem.where for problem in caught.value.problems} == {word.partition("=")[0] for word in words}


def test_14_the_command_shown_is_the_run_that_starts():
    """Unquoted JSON and paths with spaces."""
    config = TrainConfig(
        model_name_or_path="/models/my model; rm -rf ~", dataset="a,b", run_name="it's $HOME", model_name="小 苗",
        learning_rate=3e-5, max_samples=10, default_system="a: b # c", packing=True, lora_target="q_proj,v_proj",
    )  # fmt: skip
    python, m, studio, train, *words = shlex.split(command(config))
    assert (python, m, studio, train) == ("python", "-m", "studio", "train")
    assert parse(TrainConfig, overrides(words)) == config


def test_15_no_name_writes_outside_its_folder(store):
    """config_path `../escaped.yaml` did."""
    run = store.create(TrainConfig(dataset="identity", run_name="../../escaped"))
    assert run.path.parent == store.saves
    assert {path.name for path in store.saves.parent.iterdir()} == {"saves"}


@pytest.mark.parametrize("kind", [TrainConfig, ServeConfig])
def test_16_nothing_is_fixed_behind_the_users_back(kind):
    """trust_remote_code was always on, and a time-out was 5.7 years."""
    declared = {option.key: option.default for option in options(kind)}
    assert declared["trust_remote_code"] is False
    assert declared.get("ddp_timeout", 0) <= 3600


def test_17_a_worker_that_prints_without_a_reader_does_not_freeze(begin, until):
    """Its pipe was read by the browser's request: with the page closed, training stood still."""
    run = begin(["shout", 8], ["leave", 0])
    until(lambda: run.state is State.COMPLETED)
    assert run.log.stat().st_size >= 8 * 2**20


def _nanny_pid(run):
    return Identity.read(run.path / "nanny.json").pid
