"""The nanny with real workers that behave, misbehave and die."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from studio import openmp
from studio.runs import launchers, process
from studio.runs.process import Identity
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.settings import ROOT

FILLER = "ballast"


def pid_of(run: Run, name: str) -> int:
    identity = Identity.read(run.path / f"{name}.json")
    assert identity
    return identity.pid


def kill(run: Run, name: str, until) -> None:
    until(lambda: run.process_alive("worker"))
    os.kill(pid_of(run, name), signal.SIGKILL)
    until(lambda: not run.process_alive(name))


def spawned(run: Run) -> list[int]:
    return [int(pid) for pid in (run.path / "spawned.txt").read_text().split()]


# how it ends


@pytest.mark.parametrize(("code", "state"), [(0, State.COMPLETED), (10, State.STOPPED), (3, State.FAILED)])
def test_exit_code(begin, until, code, state):
    run = begin(["leave", code])
    until(lambda: not run.is_active)
    assert run.state is state
    assert run.exit["code"] == code
    assert run.exit["signal"] is None
    assert abs(time.time() - run.exit["at"]) < 60


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGHUP, signal.SIGKILL, signal.SIGTERM])
def test_death_by_signal(begin, until, number):
    run = begin(["crash", int(number)])
    until(lambda: not run.is_active)
    assert run.state is State.FAILED
    assert (run.exit["code"], run.exit["signal"]) == (None, number)
    assert number.name in run.reason


def test_kill_9_of_the_worker_is_told_from_one_by_the_kernel(begin, until):
    run = begin(["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    os.kill(pid_of(run, "worker"), signal.SIGKILL)
    until(lambda: not run.is_active)
    assert run.state is State.FAILED
    assert not run.ran_out_of_memory
    assert "a person or another program" in run.reason


def test_memory_that_runs_out_is_told(begin, until, small_group):
    run = begin(["swell", str(small_group), 300])
    until(lambda: not run.is_active)
    assert run.exit["signal"] == signal.SIGKILL, run.log.read_text()
    assert run.ran_out_of_memory
    assert "out of memory" in run.reason


def test_a_worker_that_ends_at_once(prepare, nurse, until):
    """It is over before worker.json is written, and must not be missed."""
    run = prepare()
    nurse(run, "/bin/true")
    until(lambda: run.state is State.COMPLETED)


def test_a_worker_has_the_openmp_that_can_share_its_cores(prepare, nurse, until, monkeypatch):
    for name in (*openmp.CHOSEN, "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    wanted = openmp.environment(os.environ)
    run = prepare()
    nurse(run, "/bin/sh", "-c", 'env > "$1"', "sh", str(run.path / "given"))
    until(lambda: run.state is State.COMPLETED)
    given = dict(line.split("=", 1) for line in (run.path / "given").read_text().splitlines() if "=" in line)
    assert "GOMP_SPINCOUNT" in wanted
    assert {name: given.get(name) for name in wanted} == wanted


def test_what_openmp_leaves_of_a_dead_process_goes_with_the_run(begin, until):
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Path(f"{openmp.REGISTERED}{dead.pid}_{os.getuid()}")
    left.touch()
    run = begin(["leave", 0])
    until(lambda: run.exit)
    assert not left.exists()


def test_a_program_that_does_not_exist(prepare, nurse, until):
    run = prepare()
    nurse(run, "/no/such/program")
    until(lambda: not run.is_active)
    assert run.exit["code"] == 127
    assert "/no/such/program" in run.reason


def test_the_last_line_of_the_log_is_the_reason(begin, until):
    run = begin(["say", "the shelf fell down"], ["leave", 1])
    until(lambda: not run.is_active)
    assert run.log.read_text() == "the shelf fell down\nthe shelf fell down!\n"
    assert run.reason == "The worker ended with code 1: the shelf fell down!"


def test_an_error_card_is_the_reason(begin, until):
    card = {"kind": "RowError", "message": "Row 3 is empty.", "hint": "Fill it.", "at": 0}
    run = begin(["write", "error.json", card], ["leave", 1])
    until(lambda: not run.is_active)
    assert run.reason == "Row 3 is empty. Fill it."


def test_an_error_after_a_stop_is_still_a_failure(begin, until):
    steps = ["touch", "ready"], ["await_file", "STOP"], ["write", "error.json", {"message": "no room"}], ["leave", 1]
    run = begin(*steps)
    until(lambda: (run.path / "ready").exists())
    run.stop()
    until(lambda: not run.is_active)
    assert (run.state, run.reason) == (State.FAILED, "no room")


def test_a_damaged_error_card_does_not_upset_the_nanny(begin, until):
    run = begin(["write_text", "error.json", '{"message": "torn'], ["leave", 1])
    until(lambda: run.exit)
    assert run.exit["reason"] == "failed"


# what the worker gets


def test_what_the_worker_is_born_with(begin, until):
    run = begin(["describe"])
    until(lambda: not run.is_active)
    assert run._json("born.json") == {
        "run": str(run.path),
        "session": True,
        "stdin": "/dev/null",
        "interruptible": True,
        "hangs_up": True,
    }


# stopping


def test_stop_is_heeded_by_the_worker(begin, until):
    run = begin(["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    assert run.state is State.RUNNING
    run.stop()
    assert run.state is State.STOPPING
    until(lambda: run.state is State.STOPPED)
    assert run.exit["code"] == 10


def test_stop_now_ends_a_deaf_worker_within_two_seconds(begin, until):
    run = begin(["deaf"], ["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    run.stop_now()
    until(lambda: run.state is State.STOPPED, within_s=2)
    assert run.exit["signal"] == signal.SIGKILL


def test_stop_now_ends_a_suspended_worker(begin, until):
    run = begin(["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    os.kill(pid_of(run, "worker"), signal.SIGSTOP)
    run.stop_now()
    until(lambda: run.state is State.STOPPED)


def test_stop_now_after_a_stop_that_takes_too_long(begin, until):
    run = begin(["deaf"], ["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    run.stop()
    time.sleep(0.3)
    run.stop_now()
    until(lambda: run.state is State.STOPPED)


def test_stop_now_while_the_worker_is_being_started(begin, until):
    run = begin(["sleep", 60])
    run.stop_now()
    until(lambda: run.state is State.STOPPED)


def test_the_ladder_climbs_when_stop_is_ignored(prepare, nurse, until):
    run = prepare(["note_signals"], ["touch", "ready"], ["sleep", 60], ["sleep", 60], ["sleep", 60])
    nurse(run, module="tests.fakes.impatient_nanny")
    until(lambda: (run.path / "ready").exists())
    run.stop()
    until(lambda: run.state is State.STOPPED)
    assert (run.path / "signals.txt").read_text().split() == ["SIGINT", "SIGTERM"]
    assert run.exit["signal"] == signal.SIGKILL


def test_an_ordinary_program_ends_at_the_first_rung(prepare, nurse, until):
    """SIGINT must not have been ignored on the way from the nanny to the worker."""
    run = prepare(["touch", "ready"], ["sleep", 60])
    nurse(run, module="tests.fakes.impatient_nanny")
    until(lambda: (run.path / "ready").exists())
    run.stop()
    until(lambda: run.state is State.STOPPED)
    assert "KeyboardInterrupt" in run.log.read_text()


def test_sigterm_to_the_nanny_is_a_request_to_stop(begin, until):
    run = begin(["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    os.kill(pid_of(run, "nanny"), signal.SIGTERM)
    until(lambda: run.state is State.STOPPED)
    assert run.exit["code"] == 10


def test_the_terminal_does_not_reach_the_nanny(begin, until):
    run = begin(["touch", "ready"], ["heed"])
    until(lambda: (run.path / "ready").exists())
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid_of(run, "nanny"), number)
    time.sleep(0.3)
    assert run.process_alive("nanny")
    assert run.state is State.RUNNING


# what the worker leaves behind


@pytest.mark.parametrize("step", [["spawn"], ["spawn", {}], ["spawn_orphan"]], ids=["marked", "unmarked", "orphan"])
def test_no_descendant_outlives_the_worker(begin, until, step):
    run = begin(step, step, ["leave", 0])
    until(lambda: run.state is State.COMPLETED)
    assert len(spawned(run)) == 2
    assert not any(psutil.pid_exists(pid) for pid in spawned(run))


def test_no_descendant_outlives_a_killed_worker(begin, until):
    run = begin(["spawn"], ["spawn_orphan"], ["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    os.kill(pid_of(run, "worker"), signal.SIGKILL)
    until(lambda: run.state is State.FAILED)
    assert not any(psutil.pid_exists(pid) for pid in spawned(run))


@pytest.mark.parametrize("end", [["leave", 0], ["crash", 9]], ids=["left", "killed"])
def test_a_run_that_the_worker_started_outlives_it(begin, prepare, until, end):
    other = prepare(["spawn"], ["spawn_orphan"], ["touch", "ready"], ["heed"])
    run = begin(["launch", str(other.path)], ["spawn"], ["await_file", "go"], end)
    until(lambda: (other.path / "ready").exists())
    (run.path / "go").touch()
    until(lambda: not run.is_active and not run.process_alive("nanny"))
    assert not any(psutil.pid_exists(pid) for pid in spawned(run))
    assert other.state is State.RUNNING
    assert all(psutil.pid_exists(pid) for pid in spawned(other))
    other.stop()
    until(lambda: other.state is State.STOPPED)
    assert not any(psutil.pid_exists(pid) for pid in spawned(other))


# without the nanny


def test_a_worker_goes_on_without_its_nanny_and_completes(begin, until):
    run = begin(["await_file", "go"], ["write", "result.json", {"output": "adapter"}])
    kill(run, "nanny", until)
    assert run.state is State.RUNNING
    (run.path / "go").touch()
    until(lambda: not run.is_active)
    assert run.state is State.COMPLETED
    assert not run.exit


def test_a_worker_is_known_from_its_first_moment(prepare, nurse, until):
    """Killing the nanny right after the start must not leave a worker that nobody knows of."""
    for delay_s in (0.0, 0.001, 0.002, 0.004, 0.008):
        run = prepare(["sleep", 60])
        nanny = nurse(run)
        until(lambda run=run: (run.path / ".reserve").exists())
        time.sleep(delay_s)
        nanny.kill()
        nanny.wait()
        time.sleep(0.3)
        assert run.state is (State.RUNNING if process.of_run(run.path) else State.LOST)


def test_a_stop_without_the_nanny_is_heeded(begin, until):
    run = begin(["touch", "ready"], ["await_file", "STOP"], ["write", "result.json", {"stopped": True}], ["leave", 10])
    kill(run, "nanny", until)
    run.stop()
    until(lambda: run.state is State.STOPPED)


def test_stop_now_without_the_nanny_takes_everything(begin, until):
    run = begin(["deaf"], ["spawn"], ["spawn", {}], ["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    kill(run, "nanny", until)
    run.stop_now()
    until(lambda: run.state is State.STOPPED)
    until(lambda: not any(psutil.pid_exists(pid) for pid in spawned(run)))


def test_nanny_and_worker_killed_is_lost(begin, until):
    run = begin(["touch", "ready"], ["sleep", 60])
    until(lambda: (run.path / "ready").exists())
    kill(run, "nanny", until)
    kill(run, "worker", until)
    assert run.state is State.LOST
    assert "Start it again" in run.reason


def test_an_error_card_tells_more_than_lost(begin, until):
    run = begin(["await_file", "go"], ["write", "error.json", {"message": "no room"}], ["leave", 1])
    kill(run, "nanny", until)
    (run.path / "go").touch()
    until(lambda: not run.is_active)
    assert (run.state, run.reason) == (State.FAILED, "no room")


# the disk


def test_the_nanny_of_a_deleted_run_does_not_stay_for_ever(prepare, nurse, until):
    run = prepare(["touch", "ready"], ["sleep", 1])
    nanny = nurse(run)
    until(lambda: (run.path / "ready").exists())
    shutil.rmtree(run.path)
    assert nanny.wait(10) == 0


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Tests of the full disk keep their runs on the small one."""
    full = "small_disk" in request.fixturenames
    return Store((request.getfixturevalue("small_disk") if full else tmp_path) / "saves")


def fill(folder: Path, leave_pages: int = 0) -> Path:
    ballast = folder / FILLER
    with open(ballast, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            file.truncate(file.tell() - leave_pages * 4096)
    return ballast


def test_a_run_that_fills_the_disk_can_still_say_how_it_ended(small_disk, begin, until):
    run = begin(["fill_disk"], ["leave", 1])
    until(lambda: run.state is State.FAILED)
    assert run.exit["code"] == 1


def test_exit_json_is_written_once_there_is_room(small_disk, begin, until):
    run = begin(["await_file", "go"], ["fill_disk"], ["touch", "full"], ["leave", 3])
    until(lambda: (run.path / ".reserve").exists())
    (run.path / ".reserve").unlink()
    (run.path / "go").touch()
    until(lambda: (run.path / "full").exists() and not run.process_alive("worker"))
    time.sleep(0.5)
    assert run.state is State.RUNNING  # somebody looks after it: the nanny
    (run.path / "ballast").unlink()
    until(lambda: run.state is State.FAILED)
    assert run.exit["code"] == 3


def test_a_start_on_a_full_disk_waits_for_room(small_disk, begin, prepare, until):
    run = prepare(["leave", 0])
    ballast = fill(small_disk)
    launchers.start(run)
    time.sleep(0.5)
    assert run.state is State.RUNNING
    assert not (run.path / "nanny.json").exists()
    ballast.unlink()
    until(lambda: run.state is State.COMPLETED)


def test_a_full_disk_does_not_keep_a_run_from_being_stopped(small_disk, begin, prepare, until):
    """Room for nanny.json and the reserve, none for worker.json: the nanny must not hang on it."""
    run = prepare(["deaf"], ["touch", "ready"], ["sleep", 60])
    fill(small_disk, leave_pages=2)
    launchers.start(run)
    until(lambda: (run.path / "ready").exists())
    assert not (run.path / "worker.json").exists()
    run.stop_now()
    until(lambda: run.state is State.STOPPED)


def test_nanny_imports_stay_small():
    """It waits for days beside the training: no pydantic, no yaml, no torch."""
    script = "import sys, studio.runs.nanny; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "pydantic", "yaml", "gradio", "numpy", "msgspec"} & set(loaded.stdout.split())
