"""Run files are written soon, wholly, in order, and outlast a full disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.runs.events import Note
from studio.worker.report import Reporter
from tests.worker.conftest import Disk


@pytest.fixture
def reporter(tmp_path: Path) -> Iterator[Reporter]:
    reporter = Reporter(tmp_path)
    yield reporter
    reporter.close()


def texts(run_dir: Path) -> list[str]:
    path = run_dir / "metrics.jsonl"
    return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition: object, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_event_is_on_disk_at_once(reporter: Reporter, tmp_path: Path) -> None:
    reporter.note("info", "first")
    wait_for(lambda: texts(tmp_path) == ["first"], within_s=0.3)


def test_the_status_follows_within_half_a_second_and_beats(
    reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.worker.report.HEARTBEAT_S", 0.5)
    reporter.phase("tokenising")
    reporter.progress("tokenising 300/1000")
    status = tmp_path / "status.json"
    wait_for(lambda: status.exists() and "300/1000" in status.read_text(), within_s=0.5)
    first = json.loads(status.read_text())["at"]
    wait_for(lambda: json.loads(status.read_text())["at"] > first, within_s=1.0)


def test_nothing_said_is_lost_at_the_end(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path)
    for number in range(2000):
        reporter.event(Note("info", str(number), at=0))
    reporter.result(output="adapter")
    reporter.close()
    assert texts(tmp_path) == [str(number) for number in range(2000)]
    assert json.loads((tmp_path / "result.json").read_text()) == {"output": "adapter"}


def test_saying_something_does_not_wait_for_the_disk(reporter: Reporter) -> None:
    started = time.perf_counter()
    for number in range(1000):
        reporter.event(Note("info", str(number), at=0))
        reporter.step(number, 1000, 1.0)
    assert time.perf_counter() - started < 1.0


def test_events_wait_in_memory_while_the_disk_is_full(disk: Disk) -> None:
    reporter = Reporter(disk.path)
    reporter.note("info", "before")
    wait_for(lambda: texts(disk.path) == ["before"], within_s=0.3)
    disk.fill()
    for number in range(300):
        reporter.note("info", f"{number} " + "x" * 100)
    reporter.phase("training")
    time.sleep(0.5)
    assert len(texts(disk.path)) < 300  # whole lines only: reading them did not raise
    disk.empty()
    reporter.close()
    assert len(texts(disk.path)) == 301
    assert json.loads((disk.path / "status.json").read_text())["phase"] == "training"
