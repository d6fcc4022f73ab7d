"""Runs that wait for one another, with real nannies."""

import os
import signal
import time

from studio.runs import launchers, queue
from studio.runs.process import Identity
from studio.runs.run import State


def spans(store):
    """Run ids and times written by stamps, as {id: [begin, end]}."""
    found = {}
    for line in (store.saves / "spans").read_text().splitlines():
        run_id, at = line.split()
        found.setdefault(run_id, []).append(float(at))
    return found


WORK = (["stamp", "spans"], ["sleep", 0.2], ["stamp", "spans"])


def test_waiting_runs_start_in_the_order_of_their_claims_one_at_a_time(store, prepare, begin, until):
    first = begin(["await_file", "go"])
    runs = [prepare(*WORK) for _ in range(3)]
    order = [runs[2], runs[0], runs[1]]  # not the order of creation
    for run in order:
        launchers.start(run, wait=True)
        time.sleep(0.02)
    assert [run.state for run in order] == [State.QUEUED] * 3
    (first.path / "go").touch()
    until(lambda: all(run.state is State.COMPLETED for run in runs))
    seen = spans(store)
    assert list(seen) == [run.id for run in order]
    times = [at for span in seen.values() for at in span]
    assert times == sorted(times)


def test_a_waiting_run_can_be_cancelled(store, begin, until):
    first = begin(["sleep", 60])
    second = begin(*WORK, wait=True)
    until(lambda: second.process_alive("nanny"))
    assert second.state is State.QUEUED
    second.stop()
    until(lambda: second.state is State.STOPPED, within_s=5)
    assert first.state is State.RUNNING
    assert not (store.saves / "spans").exists()


def test_killing_nanny_and_worker_frees_the_queue(begin, until):
    first = begin(["touch", "ready"], ["sleep", 60])
    second = begin(wait=True)
    until(lambda: (first.path / "ready").exists() and second.process_alive("nanny"))
    os.kill(Identity.read(first.path / "nanny.json").pid, signal.SIGKILL)
    time.sleep(0.8)
    assert second.state is State.QUEUED  # the worker still trains
    os.kill(Identity.read(first.path / "worker.json").pid, signal.SIGKILL)
    until(lambda: second.state is State.COMPLETED)
    assert first.state is State.LOST


def test_a_start_without_waiting_is_not_held(begin, until):
    begin(["sleep", 60])
    second = begin()
    until(lambda: second.state is State.COMPLETED)


def test_damaged_neighbours_do_not_stop_the_queue(store, begin, until):
    for name, text in (("nanny.json", "{"), ("status.json", "[1"), ("worker.json", "7")):
        folder = store.saves / f"broken-{name}"
        folder.mkdir(parents=True)
        for marker in ("CLAIM", "DEVICES"):
            (folder / marker).touch()
        (folder / "nanny.json").write_text("{}")
        (folder / name).write_text(text)
    (store.saves / "a file").touch()
    run = begin(wait=True)
    until(lambda: run.state is State.COMPLETED)


def test_claims_within_one_tick_of_the_clock_still_have_an_order(prepare):
    runs = [prepare() for _ in range(3)]
    for run in runs:
        for marker in ("DEVICES", "CLAIM"):
            (run.path / marker).touch()
    for run in runs:
        os.utime(run.path / "CLAIM", ns=(run.path.stat().st_mtime_ns, runs[0].path.stat().st_mtime_ns))
    assert sorted(len(queue.ahead(run.path)) for run in runs) == [0, 1, 2]
