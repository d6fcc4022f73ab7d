"""Runs that a real SLURM runs, started for these tests: slurmctld and two slurmd on this machine."""

import json
import time
from collections.abc import Iterator

import psutil
import pytest

from studio.config.train import TrainConfig
from studio.files import read_json, write_json
from studio.runs import cluster, launchers
from studio.runs.process import Identity
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.runs.summary import of
from tests import slurm
from tests.slurm import Slurm

PARALLEL = {"parallel_strategy": "ddp", "nproc_per_node": 1}
CONFIG = TrainConfig(dataset="identity", run_name="job", launcher="slurm", **PARALLEL)
TRAINING = {"dataset": "alpaca_demo", "max_samples": 16, "cutoff_len": 32, "save_steps": 3, "logging_steps": 1}
REAL = launchers.SLURM
BEGAN = ["write", "status.json", {"phase": "training", "message": "", "at": time.time() + 3600}]


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Iterator[Slurm]:
    slurm.needed()
    machine = Slurm(hidden=tmp_path_factory.getbasetemp())
    try:
        machine.start()
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module")
def hurried(machine, tmp_path_factory) -> Run:
    """A run whose time is nearly up from the start. SLURM looks every half a minute, so it begins before all tests."""
    options = {"slurm_partition": "spare", "slurm_time": "1", "slurm_options": "--signal=B:USR1@57"}
    run = Store(tmp_path_factory.mktemp("hurried") / "Ada's $HOME").create(CONFIG.model_copy(update=options))
    (run.path / "fake.json").write_text(json.dumps([BEGAN, ["heed"]]))
    with pytest.MonkeyPatch.context() as patch:
        _be_at(machine, patch)
        launchers.start(run)
    return run


def _be_at(machine: Slurm, patch: pytest.MonkeyPatch) -> None:
    """Have commands of this process, and of what it starts, find the cluster; a fake worker does the jobs."""
    for name, value in machine.environment.items():
        patch.setenv(name, value)
    patch.setattr(launchers, "SLURM", "tests.fakes.slurm_worker")


@pytest.fixture
def here(machine, hurried, monkeypatch, cleared) -> Slurm:
    """The cluster."""
    _be_at(machine, monkeypatch)
    return machine


@pytest.fixture
def submit(prepare, here):
    """A started run whose job does `steps`."""

    def submit(*steps, config=CONFIG, **options) -> Run:
        run = prepare(*steps, config=config.model_copy(update=options))
        launchers.start(run)
        return run

    return submit


@pytest.fixture
def full(here) -> Iterator[str]:
    """A job of somebody else that has all nodes."""
    job = here.ask("sbatch", "--parsable", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 600").strip()
    yield job
    here.ask("scancel", job)


def _job(run: Run) -> str:
    return str((read_json(run.path / "slurm.json") or {}).get("job_id", ""))


def _ends(run, until, within_s=30) -> State:
    until(lambda: not run.is_active, within_s)
    return run.state


def _slurm_says(here, run) -> str:
    return here.ask("squeue", "-h", "-t", "all", "-j", _job(run), "-o", "%T").strip()


def test_a_job_runs_and_its_end_is_the_runs(submit, until):
    run = submit(["write", "result.json", {"output": "adapter", "stopped": False}])
    assert _ends(run, until) is State.COMPLETED
    assert not (run.path / "DEVICES").exists()
    told = read_json(run.path / "slurm.json")
    assert (told["state"], told["partition"]) == ("COMPLETED", "main")
    assert read_json(run.path / "nodes.json")["addr"] == "127.0.0.1"


def test_a_waiting_job_tells_its_place_and_is_cancelled_by_a_stop(submit, full, until, here):
    run = submit(["heed"])
    until(lambda: run.state is State.QUEUED and "1st of 1 in partition main" in of(run).message)
    later = submit(["heed"])
    until(lambda: "2nd of 2 in partition main" in of(later).message)
    assert f"SLURM job {_job(later)}" in of(later).message
    later.stop()
    run.stop_now()
    assert (_ends(later, until), _ends(run, until)) == (State.STOPPED, State.STOPPED)
    until(lambda: _slurm_says(here, later) == _slurm_says(here, run) == "CANCELLED")
    assert later.reason == ""


def test_a_running_job_heeds_a_stop_and_ends_at_once_when_told_to(submit, until, here):
    gentle, stubborn = submit(BEGAN, ["heed"]), submit(BEGAN, ["deaf"], ["touch", "deaf"], ["sleep", 600])
    until(lambda: _is_training(gentle) and (stubborn.path / "deaf").exists(), 30)
    assert gentle.state is State.RUNNING
    gentle.stop()
    stubborn.stop_now()
    assert (_ends(gentle, until), _ends(stubborn, until)) == (State.STOPPED, State.STOPPED)
    until(lambda: "RUNNING" not in _slurm_says(here, stubborn))


def test_what_slurm_does_to_a_job_is_the_reason(submit, until, here):
    cancelled, failed = submit(BEGAN, ["sleep", 600]), submit(BEGAN, ["sleep", 600])
    for run in (cancelled, failed):
        (run.path / "checkpoints/checkpoint-4").mkdir(parents=True)
        write_json(run.path / "checkpoints/checkpoint-4/trainer_state.json", {})
    until(lambda: _is_training(cancelled) and _is_training(failed), 30)
    here.ask("scancel", _job(cancelled))
    node = until(lambda: read_json(failed.path / "slurm.json")["nodes"])
    here.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        assert _ends(cancelled, until) is State.STOPPED
        assert _ends(failed, until) is State.FAILED
    finally:
        here.ask("scontrol", "update", f"nodename={node}", "state=resume")
    assert "was cancelled by somebody else" in cancelled.reason
    assert f"Node {node} failed while SLURM job {_job(failed)} ran there" in failed.reason
    assert "Resume it" in failed.reason


def test_a_killed_supervisor_takes_the_job_with_it(submit, until, here):
    run = submit(BEGAN, ["sleep", 600])
    until(lambda: _is_training(run), 30)
    _kill(run, "worker")
    assert _ends(run, until) is State.FAILED
    until(lambda: "RUNNING" not in _slurm_says(here, run))


def test_a_job_outlives_this_machine_and_is_found_again(submit, store, until, here):
    run = submit(BEGAN, ["await_file", "go"], ["write", "result.json", {"output": "adapter"}])
    until(lambda: _is_training(run), 30)
    for name in ("nanny", "worker"):
        _kill(run, name)
    until(lambda: not run.process_alive("worker"))
    assert run.state is State.RUNNING
    assert launchers.attach(store) == [run]
    assert launchers.attach(store) == []
    assert run.status["phase"] == "training"
    (run.path / "go").touch()
    assert _ends(run, until) is State.COMPLETED


def test_without_anybody_here_a_job_is_still_stopped(submit, until, here):
    run = submit(BEGAN, ["deaf"], ["sleep", 600])
    until(lambda: _is_training(run), 30)
    for name in ("nanny", "worker"):
        _kill(run, name)
    until(lambda: not run.process_alive("nanny"))
    run.stop_now()
    until(lambda: "RUNNING" not in _slurm_says(here, run))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slurm_partition": "nowhere"}, ["invalid partition", "Set slurm_partition"]),
        ({"slurm_options": "--nonsense=1"}, ["nonsense", "slurm_options"]),
    ],
    ids=["partition", "option"],
)
def test_what_slurm_refuses_is_said_with_what_to_change(submit, until, options, words):
    run = submit(**options)
    assert _ends(run, until) is State.FAILED
    for word in words:
        assert word.lower() in run.reason.lower()


def test_without_slurm_the_run_says_so(prepare, cleared, until, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = prepare(config=CONFIG)
    launchers.start(run)
    assert _ends(run, until) is State.FAILED
    assert "is not on this machine" in run.reason


def test_a_machine_of_no_cluster_says_so(prepare, cleared, until, monkeypatch, tmp_path):
    (tmp_path / "slurm.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    run = prepare(config=CONFIG)
    launchers.start(run)
    assert _ends(run, until) is State.FAILED
    assert "of no SLURM cluster" in run.reason
    assert "launcher: local" in run.reason


def test_a_job_that_was_submitted_but_not_written_down_is_found(here, prepare, until):
    run = prepare(["heed"], config=CONFIG)
    job = here.ask("sbatch", "--parsable", f"--job-name={run.id}", "-o/dev/null", "--wrap=sleep 600").strip()
    assert cluster.look(cluster.Ticket(job, "another")) is None
    cluster.cancel(cluster.Ticket(job, "another"))
    assert cluster.find(run.id) == cluster.Ticket(job, run.id)
    assert not cluster.look(cluster.Ticket(job, run.id)).is_ending
    cluster.cancel(cluster.Ticket(job, run.id))
    until(lambda: cluster.look(cluster.Ticket(job, run.id)).is_ending)


def test_a_job_that_asks_for_too_much_is_told_of_while_it_waits(submit, until):
    run = submit(nnodes=3)
    until(lambda: "more nodes than the partition has; stop it and lower nnodes" in of(run).message)
    run.stop()
    assert _ends(run, until) is State.STOPPED


@pytest.mark.skipif(not slurm.can_hide(), reason="only root, with the right to mount, can hide a folder from a node")
def test_nodes_that_do_not_share_the_folder_are_told_of(submit, until):
    run = submit(["sleep", 1], slurm_partition="blind")
    assert _ends(run, until) is State.FAILED
    assert f"The nodes four do not see {run.path}" in run.reason


def test_the_death_of_a_node_is_the_reason_and_the_training_resumes_elsewhere(here, store, until, monkeypatch):
    monkeypatch.setattr(launchers, "SLURM", REAL)
    run = store.create(TrainConfig(**TRAINING, nnodes=2, max_steps=2000, launcher="slurm", **PARALLEL))
    launchers.start(run)
    until(run.checkpoints, 60)
    here.kill_node("two")
    assert _ends(run, until, 60) is State.FAILED
    here.start_node("two")
    assert "node 1 (two) went down without a word" in run.reason.lower()
    step = max(int(path.name.removeprefix("checkpoint-")) for path in run.checkpoints())
    alone = {"parallel_strategy": "single", "nnodes": 1, "nproc_per_node": None, "launcher": "local"}
    resumed = launchers.start_new(store, store.resume(run, **alone, max_steps=step + 2))
    assert _ends(resumed, until, 60) is State.COMPLETED, resumed.reason
    assert resumed.result["steps"] == step + 2


def test_a_job_whose_time_is_nearly_up_stops_as_asked_and_says_why(hurried, until):
    assert _ends(hurried, until, 60) is State.STOPPED
    assert "The time limit of SLURM job" in hurried.reason


def test_a_controller_that_is_down_for_a_while_is_waited_for(submit, until, here):
    run = submit(BEGAN, ["await_file", "go"], ["write", "result.json", {"output": "adapter"}])
    until(lambda: _is_training(run), 30)
    here.stop_controller()
    late = submit(["write", "result.json", {"output": "adapter"}])
    until(lambda: "SLURM does not answer" in of(late).message)
    until(lambda: "SLURM does not answer" in run.log.read_text())
    here.start_controller()
    (run.path / "go").touch()
    assert (_ends(run, until), _ends(late, until)) == (State.COMPLETED, State.COMPLETED)


def _kill(run: Run, name: str) -> None:
    psutil.Process(Identity.read(run.path / f"{name}.json").pid).kill()


def _is_training(run: Run) -> bool:
    return run.status.get("phase") == "training"
