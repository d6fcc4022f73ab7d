"""A training on several machines that people start: meeting, joining, and missing one of them."""

import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from studio.cli import follow, node
from studio.config.train import TrainConfig
from studio.errors import AlreadyStarted, ConfigError, ParallelError, RunNotFound
from studio.files import tail, write_json
from studio.parallel.nodes import Host
from studio.runs import launchers, nodes
from studio.runs.nodes import Meeting
from studio.runs.process import Identity
from studio.runs.run import State
from studio.runs.store import Store
from studio.settings import ROOT

CONFIG = TrainConfig(
    dataset="identity", run_name="far", parallel_strategy="ddp", nnodes=2, nproc_per_node=1, master_addr="127.0.0.1"
)


@pytest.fixture
def spread(prepare, cleared, monkeypatch):
    """A started run of two machines; fake workers do `steps` on either. No main one listens, but for `open_door`."""
    monkeypatch.setattr(launchers, "LAUNCH", "tests.fakes.worker")

    def spread(*steps, **options):
        run = prepare(*steps, config=CONFIG.model_copy(update=options))
        launchers.start(run)
        return run

    return spread


@pytest.fixture
def open_door():
    doors = []

    def open_door(run):
        doors.append(socket.create_server(("", Meeting.read(run.path).port)))

    yield open_door
    for door in doors:
        door.close()


def test_where_machines_meet_is_settled_before_the_start(spread, until):
    run = spread()
    meeting = Meeting.read(run.path)
    assert (meeting.addr, len(meeting.hosts)) == ("127.0.0.1", 2)
    assert 1024 <= meeting.port <= 65535
    [typed] = nodes.commands(run)
    assert typed.node == 1
    assert typed.text.endswith(f"-m studio train {run.path} --node-rank 1")
    until(lambda: not run.is_active)


def test_a_hostfile_says_who_they_are(spread, tmp_path, capsys):
    (tmp_path / "hosts").write_text("localhost slots=2\nother slots=4\nthird slots=4\n")
    run = spread(hostfile=str(tmp_path / "hosts"), master_addr=None, nnodes=1, master_port=29871)
    meeting = Meeting.read(run.path)
    assert meeting == Meeting("localhost", 29871, (Host("localhost", 2), Host("other", 4), Host("third", 4)))
    assert [(typed.node, typed.host) for typed in nodes.commands(run)] == [(1, "other"), (2, "third")]
    follow.invite(run)
    assert f"On third type: {nodes.commands(run)[1].text}\n" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["hostfile", "master_addr"])
def test_a_run_whose_machines_cannot_meet_is_not_begun(prepare, option):
    run = prepare(config=CONFIG.model_copy(update={option: "no.such.place.invalid"}))
    with pytest.raises(ConfigError, match=option):
        launchers.start(run)
    assert not (run.path / "CLAIM").exists()


def test_a_machine_joins_once(spread, open_door, until):
    run = spread(["sleep", 60])
    open_door(run)
    (run.path / "nodes/1").mkdir(parents=True)
    (run.path / "nodes/1/exit.json").write_text("{}")  # of one that joined and left again
    folder = launchers.join(run, 1)
    with pytest.raises(AlreadyStarted, match="node 1"):
        launchers.join(run, 1)
    until(lambda: nodes.has_joined(run.path, 1))
    with pytest.raises(AlreadyStarted, match="node 1"):
        launchers.join(run, 1)
    assert Identity.read(folder / "worker.json") != Identity.read(run.path / "worker.json")
    (folder / "STOP_NOW").touch()
    until(lambda: (folder / "exit.json").exists())
    assert run.state is State.RUNNING


def test_who_cannot_join_is_told_why(spread, prepare, until, monkeypatch):
    monkeypatch.setattr(nodes, "REACH_S", 0.5)
    run = spread(["sleep", 60])
    with pytest.raises(ParallelError, match=r"main node does not answer from here at 127\.0\.0\.1"):
        launchers.join(run, 1)
    for number in (0, 2, -1):
        with pytest.raises(ParallelError, match="join as 1 to 1"):
            launchers.join(run, number)
    (run.path / "WAIT").touch()
    with pytest.raises(ParallelError, match="waits for the trainings"):
        launchers.join(run, 1)
    (run.path / "WAIT").unlink()
    (run.path / "ranks").mkdir()
    with pytest.raises(ParallelError, match="has begun"):
        launchers.join(run, 1)
    run.stop_now()
    until(lambda: not run.is_active)
    with pytest.raises(ParallelError, match=r"is stopped.*all nodes must share it"):
        launchers.join(run, 1)
    with pytest.raises(ParallelError, match="takes no further nodes"):
        launchers.join(prepare(), 1)


def test_the_main_machine_waits_for_all_and_says_what_to_type(prepare, until, cleared):
    run = prepare(config=CONFIG)
    Meeting("127.0.0.1", nodes.free_port(), (Host(), Host("beta"))).write(run.path)
    answer = []
    waiting = threading.Thread(target=lambda: answer.append(nodes.gather(run.path)))
    waiting.start()
    until(lambda: "on beta type cd " in run.status.get("message", ""))
    nodes.check_reach(Meeting.read(run.path))
    with subprocess.Popen(["sleep", "60"]) as other:
        (run.path / "nodes/1").mkdir(parents=True)
        write_json(run.path / "nodes/1/worker.json", Identity.of(other.pid).to_json())
        waiting.join(10)
        other.kill()
    assert answer == [True]


def test_a_run_is_stopped_while_machines_are_waited_for(prepare):
    run = prepare(config=CONFIG)
    Meeting("127.0.0.1", nodes.free_port(), (Host(), Host())).write(run.path)
    run.stop()
    assert nodes.gather(run.path) is False


def test_a_port_that_is_taken_is_told_of(prepare):
    run = prepare(config=CONFIG)
    with socket.create_server(("", 0)) as other:
        Meeting("127.0.0.1", other.getsockname()[1], (Host(), Host())).write(run.path)
        with pytest.raises(ParallelError, match="taken by another program"):
            nodes.gather(run.path)


def test_the_machine_that_fell_silent_is_named(prepare):
    run = prepare(config=CONFIG)
    Meeting("127.0.0.1", 4000, (Host("alpha"), Host("beta"), Host("gamma"))).write(run.path)
    for number, name in ((1, "status.json"), (2, "error.json")):
        (run.path / f"nodes/{number}").mkdir(parents=True)
        write_json(run.path / f"nodes/{number}/{name}", {"at": 1})
    started = time.monotonic()
    assert nodes.fallen(run.path, patience_s=0.5) == (
        "Node 1 (beta) went down without a word, or cannot be reached any more."
    )
    assert time.monotonic() - started < 5
    write_json(run.path / "nodes/1/exit.json", {"signal": signal.SIGKILL})
    assert nodes.fallen(run.path, patience_s=0.5) == "The processes on node 1 (beta) were ended by signal 9."
    write_json(run.path / "nodes/1/exit.json", {"code": 1})
    assert nodes.fallen(run.path, patience_s=0.5) is None


def test_a_killed_machine_takes_its_processes_along(spread, open_door, until):
    run = spread(["spawn"], ["sleep", 60])
    until(lambda: _spawned(run))
    open_door(run)
    folder = launchers.join(run, 1)
    until(lambda: len(_spawned(run)) == 2)
    psutil.Process(Identity.read(folder / "worker.json").pid).kill()
    until(lambda: (folder / "exit.json").exists())
    assert [psutil.pid_exists(pid) for pid in _spawned(run)] == [True, False]
    assert run.state is State.RUNNING


def _spawned(run):
    return [int(line) for line in tail(run.path / "spawned.txt", 1000).split()]


def test_ctrl_c_ends_a_machine_that_waits_and_stops_a_training_that_runs(spread, open_door, until):
    run = spread(["heed"])
    open_door(run)
    with _joining(run) as other:
        assert other.stdout.readline().startswith("Joined")
        until(lambda: nodes.has_joined(run.path, 1))
        other.send_signal(signal.SIGINT)
        assert (other.wait(20), "Ending this node" in other.stdout.read()) == (10, True)
    assert run.state is State.RUNNING
    with _joining(run) as other:
        assert other.stdout.readline().startswith("Joined")
        until(lambda: nodes.has_joined(run.path, 1))
        (run.path / "ranks").mkdir()
        other.send_signal(signal.SIGINT)
        assert (other.wait(20), "Stopping the training on all nodes" in other.stdout.read()) == (10, True)
    assert run.state is State.STOPPED


def _joining(run):
    program = (
        "import sys; from studio.cli import node; from studio.runs import launchers\n"
        "launchers.LAUNCH = 'tests.fakes.worker'; sys.exit(node.join(None, sys.argv[1:], 1))"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(run.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("words", [["config.yaml", "nnodes=2"], []], ids=["options", "nothing"])
def test_joining_takes_a_run_and_nothing_else(store, words):
    with pytest.raises(ConfigError, match="--node-rank 1 joins a run: give its folder"):
        node.join(store, words, 1)


def test_a_folder_that_is_not_shared_is_told_of(store, tmp_path):
    for word in (str(tmp_path / "elsewhere/run"), "20260101-000000-abcdef"):
        with pytest.raises(RunNotFound, match="all nodes must share the saves folder"):
            node.join(store, [word], 1)


def test_two_machines_train_together_by_the_command_that_is_shown(tmp_path, until):
    store = Store(tmp_path / "Ada's saves")
    config = TrainConfig(
        dataset="alpaca_demo", parallel_strategy="ddp", nnodes=2, nproc_per_node=1, master_addr="127.0.0.1",
        max_samples=16, cutoff_len=32, max_steps=2, save_steps=0,
    )  # fmt: skip
    run = store.create(config)
    launchers.start(run)
    until(lambda: run.status.get("phase") == nodes.PHASE)
    [typed] = nodes.commands(run)
    other = subprocess.run(["bash", "-c", typed.text], capture_output=True, text=True, timeout=120)
    assert other.returncode == 0, other.stderr
    assert "completed" in other.stdout
    assert (run.state, run.result["world_size"]) == (State.COMPLETED, 2)
    assert (run.path / "nodes/1/exit.json").exists()
    again = subprocess.run(["bash", "-c", typed.text], capture_output=True, text=True, timeout=60)
    assert (again.returncode, "is completed as seen from here" in again.stderr) == (1, True)
