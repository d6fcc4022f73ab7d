"""Processes by pid, start and host: living, dead, undead and elsewhere."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from studio.runs import process
from studio.runs.process import RUN_VARIABLE, Identity


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["/bin/sleep", "600"])
    yield child
    child.kill()
    child.wait()


def test_a_living_process(sleeper):
    assert process.is_alive(Identity.of(sleeper.pid))
    assert process.is_alive(Identity.of())


def test_a_dead_process(sleeper):
    identity = Identity.of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not process.is_alive(identity)
    with pytest.raises(ProcessLookupError):
        Identity.of(sleeper.pid)


def test_a_reused_pid_is_another_process(sleeper):
    assert not process.is_alive(replace(Identity.of(sleeper.pid), started=Identity.of(sleeper.pid).started - 1))


def test_no_process_outlives_a_restart_of_the_machine(sleeper):
    assert not process.is_alive(replace(Identity.of(sleeper.pid), boot="another"))


def test_a_zombie_is_dead(sleeper, until):
    identity = Identity.of(sleeper.pid)
    sleeper.kill()
    until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE)
    assert not process.is_alive(identity)


def test_a_name_with_spaces_and_brackets(tmp_path):
    program = tmp_path / "a) Z 1 (b"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "600"])
    try:
        assert process.is_alive(Identity.of(child.pid))
    finally:
        child.kill()
        child.wait()


def test_an_identity_survives_the_file(tmp_path):
    path = tmp_path / "nanny.json"
    path.write_text(json.dumps({**Identity.of().to_json(), "cmd": ["more"]}))
    assert Identity.read(path) == Identity.of()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "started": 1, "boot": "", "host": ""}', '{"pid": null}'],
)
def test_a_damaged_identity_is_none(tmp_path, text):
    (tmp_path / "nanny.json").write_text(text)
    assert Identity.read(tmp_path / "nanny.json") is None
    assert not process.lives(tmp_path, "nanny")


@pytest.mark.parametrize("pid", [-1, 0, 10**12])
def test_an_impossible_pid_is_dead(pid):
    assert not process.is_alive(replace(Identity.of(), pid=pid))


@pytest.mark.parametrize(
    ("status", "alive"),
    [
        ('{"at": NOW}', True),
        ('{"at": OLD}', False),
        ("{}", False),
        ('{"at": "soon"}', False),
        ('{"at": N', False),
        (None, False),
    ],
)
def test_a_process_of_another_host_is_judged_by_its_heartbeat(tmp_path, status, alive):
    identity = replace(Identity.of(), host="elsewhere")
    (tmp_path / "worker.json").write_text(json.dumps(identity.to_json()))
    if status:
        text = status.replace("NOW", str(time.time() - 20)).replace("OLD", str(time.time() - 200))
        (tmp_path / "status.json").write_text(text)
    assert process.lives(tmp_path, "worker") is alive


def test_of_run_finds_the_marked_and_their_children(tmp_path):
    mine, other = tmp_path / "run", tmp_path / "run-2"
    script = "env -i sleep 600 & echo $!; wait"
    children = [
        subprocess.Popen(["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"], RUN_VARIABLE: str(folder)},
                         stdout=subprocess.PIPE)
        for folder in (mine, other)
    ]  # fmt: skip
    try:
        pids = {children[0].pid, int(children[0].stdout.readline())}
        assert {found.pid for found in process.of_run(mine)} == pids
    finally:
        process.kill(process.of_run(mine) | process.of_run(other))
        for child in children:
            child.communicate()
    process.kill([])


def test_killing_what_is_gone_is_fine(sleeper):
    gone = psutil.Process(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    process.kill([gone])


def test_not_even_the_path_tells_runs_apart_by_prefix(tmp_path: Path):
    child = subprocess.Popen(["/bin/sleep", "600"], env={RUN_VARIABLE: str(tmp_path / "abc")})
    try:
        assert process.of_run(tmp_path / "ab") == set()
    finally:
        child.kill()
        child.wait()
