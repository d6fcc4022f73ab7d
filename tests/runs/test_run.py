"""What a directory says: state, reason, damage, outputs."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from datetime import datetime

import psutil
import pytest

from studio.config.load import save
from studio.config.train import TrainConfig
from studio.runs.process import Identity
from studio.runs.run import ACTIVE, ENDS, Run, State

COMPLETED = {"code": 0, "signal": None, "reason": "completed", "at": 1.0}
STOPPED = {"code": 10, "signal": None, "reason": "stopped", "at": 1.0}
FAILED = {"code": 1, "signal": None, "reason": "failed", "at": 1.0}


@pytest.fixture(scope="module")
def processes(until):
    """Identities of every sort: alive, dead, zombie, reused, remote."""
    sleepers = [subprocess.Popen(["/bin/sleep", "600"]) for _ in range(3)]
    alive, dead, zombie = (Identity.of(child.pid) for child in sleepers)
    for child in sleepers[1:]:
        child.kill()
    sleepers[1].wait()
    until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
    yield {
        "alive": alive,
        "dead": dead,
        "zombie": zombie,
        "reused": replace(alive, started=alive.started - 100),
        "remote": replace(alive, host="elsewhere"),
    }
    for child in sleepers:
        child.kill()
        child.wait()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "20261122-013055-9f2c1a-test"
    path.mkdir()
    save(TrainConfig(dataset="identity"), path / "config.yaml")
    return path


def lay(folder, processes, *, claim=None, nanny=None, worker=None, flags=(), heartbeat_s=None, **records):
    """Write the files of a run by hand. `claim` is its age in seconds."""
    if claim is not None:
        (folder / "CLAIM").touch()
        os.utime(folder / "CLAIM", (time.time() - claim,) * 2)
    for name, kind in (("nanny", nanny), ("worker", worker)):
        if kind:
            (folder / f"{name}.json").write_text(json.dumps(processes[kind].to_json()))
    for name in flags:
        (folder / name).touch()
    if heartbeat_s is not None:
        (folder / "status.json").write_text(json.dumps({"at": time.time() - heartbeat_s}))
    for name, value in records.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return Run(folder)


RESULT = {"output": "adapter"}
HALF_DONE = {"output": "adapter", "stopped": True}
CARD = {"message": "no room"}
STATES = [
    # never started
    ("queued", {}),
    ("queued", {"flags": ["DEVICES"]}),
    ("stopped", {"flags": ["STOP"]}),
    # claimed, the nanny has not spoken yet, or never came
    ("running", {"claim": 0}),
    ("queued", {"claim": 0, "flags": ["WAIT"]}),
    ("stopping", {"claim": 0, "flags": ["STOP"]}),
    ("lost", {"claim": 60}),
    ("lost", {"claim": 60, "flags": ["WAIT"]}),
    ("stopped", {"claim": 60, "flags": ["STOP_NOW"]}),
    # waiting for its turn
    ("queued", {"claim": 60, "nanny": "alive", "flags": ["WAIT"]}),
    ("stopping", {"claim": 60, "nanny": "alive", "flags": ["WAIT", "STOP"]}),
    ("lost", {"claim": 60, "nanny": "dead", "flags": ["WAIT"]}),
    # at work
    ("running", {"claim": 60, "nanny": "alive"}),
    ("running", {"claim": 60, "nanny": "alive", "worker": "alive"}),
    ("running", {"claim": 60, "nanny": "alive", "worker": "dead"}),
    ("running", {"claim": 60, "nanny": "dead", "worker": "alive"}),
    ("running", {"claim": 60, "nanny": "alive", "worker": "alive", "result": RESULT}),
    ("running", {"claim": 60, "nanny": "alive", "worker": "alive", "error": CARD}),
    ("stopping", {"claim": 60, "nanny": "alive", "worker": "alive", "flags": ["STOP"]}),
    ("stopping", {"claim": 60, "nanny": "alive", "worker": "alive", "flags": ["STOP_NOW"]}),
    ("stopping", {"claim": 60, "nanny": "dead", "worker": "alive", "flags": ["STOP"]}),
    # ended, and the nanny said so: nothing else matters
    ("completed", {"claim": 60, "exit": COMPLETED}),
    ("completed", {"claim": 60, "exit": COMPLETED, "flags": ["STOP"]}),
    ("completed", {"claim": 60, "nanny": "alive", "worker": "alive", "exit": COMPLETED}),
    ("stopped", {"claim": 60, "nanny": "dead", "worker": "dead", "exit": STOPPED, "result": RESULT}),
    ("failed", {"claim": 60, "nanny": "dead", "worker": "dead", "exit": FAILED, "result": RESULT}),
    # nobody alive and no exit.json: the nanny was killed
    ("lost", {"claim": 0, "nanny": "dead"}),
    ("lost", {"claim": 60, "nanny": "dead", "worker": "dead"}),
    ("lost", {"claim": 60, "nanny": "zombie", "worker": "zombie"}),
    ("lost", {"claim": 60, "nanny": "reused", "worker": "reused"}),
    ("completed", {"claim": 60, "nanny": "dead", "worker": "dead", "result": RESULT}),
    ("stopped", {"claim": 60, "nanny": "dead", "worker": "dead", "result": HALF_DONE}),
    ("failed", {"claim": 60, "nanny": "dead", "worker": "dead", "error": CARD}),
    ("failed", {"claim": 60, "nanny": "dead", "worker": "dead", "error": CARD, "flags": ["STOP"]}),
    ("stopped", {"claim": 60, "nanny": "dead", "worker": "dead", "flags": ["STOP"]}),
    # on another host
    ("running", {"claim": 60, "nanny": "remote", "worker": "remote", "heartbeat_s": 5}),
    ("lost", {"claim": 60, "nanny": "remote", "worker": "remote", "heartbeat_s": 90}),
    ("lost", {"claim": 60, "nanny": "remote", "worker": "remote"}),
]


@pytest.mark.parametrize(("state", "files"), STATES, ids=lambda value: str(value)[:80])
def test_state(folder, processes, state, files):
    run = lay(folder, processes, **files)
    assert run.state == state
    assert run.is_active == (state in ("queued", "running", "stopping"))
    assert bool(run.reason) == (state in ("failed", "lost"))


def test_every_state_but_damaged_is_in_the_table():
    assert {state for state, _ in STATES} == {state.value for state in State} - {"damaged"}
    assert not ACTIVE & ENDS


DAMAGE = [
    ("config.yaml", "kind: train\nlora_rank: -1", "lora_rank"),
    ("config.yaml", "a: b: c", "line 1, column 5"),
    ("config.yaml", "\x00\x01", "config.yaml"),
    ("config.yaml", "schema_version: 99", "another version (schema 99)"),
    ("exit.json", '{"code": 0, "rea', "exit.json is not valid JSON"),
    ("exit.json", "[]", "exit.json holds no JSON object"),
    ("exit.json", '{"code": 0}', "exit.json gives no reason"),
    ("exit.json", '{"reason": []}', "exit.json gives no reason"),
    ("exit.json", '{"reason": "evaporated"}', "exit.json gives no reason"),
    ("nanny.json", "{", "nanny.json is not valid JSON"),
    ("result.json", "\xff", "result.json is not valid JSON"),
]


@pytest.mark.parametrize(("name", "text", "what"), DAMAGE, ids=lambda value: str(value)[:30])
def test_a_damaged_file_makes_a_damaged_run_that_says_so(folder, processes, name, text, what):
    run = lay(folder, processes, claim=60, nanny="dead", worker="dead")
    (folder / name).write_bytes(text.encode("latin-1"))
    assert run.state is State.DAMAGED
    assert what in run.reason
    assert not run.is_active


@pytest.mark.parametrize("name", ["status.json", "server.json"])
def test_a_damaged_file_that_the_state_does_not_follow_from_reads_as_empty(folder, processes, name):
    run = lay(folder, processes, claim=60, nanny="alive")
    (folder / name).write_text('{"phase": "tr')
    assert run.state is State.RUNNING
    assert run._json(name) == {}


def test_a_run_at_work_can_be_stopped_whatever_is_damaged(folder, processes):
    run = lay(folder, processes, claim=60, nanny="alive")
    (folder / "config.yaml").write_text("[")
    assert (run.state, run.kind, run.name) == (State.RUNNING, "unknown", folder.name)


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, "no lack of memory"), (signal.SIGSEGV, "SIGSEGV"), (50, "signal 50"), (signal.SIGBUS, "SIGBUS")],
)
def test_a_signal_is_named(folder, processes, number, words):
    run = lay(folder, processes, claim=60, exit={**FAILED, "code": None, "signal": number})
    assert words in run.reason


def test_the_kernel_is_named(folder, processes):
    ended = {**FAILED, "code": None, "signal": signal.SIGKILL, "out_of_memory": True}
    run = lay(folder, processes, claim=60, exit=ended)
    assert run.ran_out_of_memory
    assert "ran out of memory" in run.reason


def test_a_silent_failure_says_that_it_was_silent(folder, processes):
    assert "printed nothing" in lay(folder, processes, claim=60, exit=FAILED).reason


def test_lost_advises_to_resume_only_where_that_is_possible(folder, processes):
    run = lay(folder, processes, claim=60, nanny="dead")
    assert "Resume" not in run.reason
    (folder / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    (folder / "checkpoints" / "checkpoint-5" / "trainer_state.json").touch()
    assert "Resume" in run.reason


def test_checkpoints_are_complete_ones_by_number(folder):
    for name in ("checkpoint-100", "checkpoint-20", "checkpoint-best", "checkpoint-3.tmp", "tmp-checkpoint-9"):
        (folder / "checkpoints" / name).mkdir(parents=True)
        (folder / "checkpoints" / name / "trainer_state.json").touch()
    (folder / "checkpoints" / "checkpoint-50").mkdir()
    assert [path.name for path in Run(folder).checkpoints()] == ["checkpoint-20", "checkpoint-100"]


def test_created_comes_from_the_id_or_the_folder(tmp_path):
    assert Run(tmp_path / "20261122-013055-9f2c1a").created == datetime(2026, 11, 22, 1, 30, 55).astimezone()
    (tmp_path / "by-hand").mkdir()
    assert abs(Run(tmp_path / "by-hand").created.timestamp() - time.time()) < 60


def test_output_is_known_once_there_is_a_result(folder, processes):
    assert Run(folder).output is None
    assert lay(folder, processes, result=RESULT).output == folder / "adapter"
