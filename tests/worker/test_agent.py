"""When the processes of one machine end because the run is over on another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.worker import agent
from studio.worker.agent import Others, Plan


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "LOOK_S", 0.0)


def others(run_dir: Path, node: int, nodes: int = 3, timeout_s: int = 30) -> Others:
    (run_dir / "nodes/1").mkdir(parents=True, exist_ok=True)
    (run_dir / "nodes/2").mkdir(exist_ok=True)
    return Others(Plan(run_dir, node, nodes, 1, "localhost", 5000, timeout_s))


def end(folder: Path, reason: str) -> None:
    (folder / "exit.json").write_text(json.dumps({"reason": reason}))


def test_the_main_machine_looks_at_all_others(tmp_path: Path) -> None:
    main = others(tmp_path, 0)
    assert not main.are_over()
    end(tmp_path / "nodes/1", "completed")
    assert not main.are_over()
    end(tmp_path / "nodes/2", "failed")
    assert main.are_over()


def test_another_machine_looks_at_the_main_one_alone(tmp_path: Path) -> None:
    other = others(tmp_path, 1)
    end(tmp_path / "nodes/2", "failed")
    assert not other.are_over()
    end(tmp_path, "stopped")
    assert other.are_over()


def test_a_card_is_enough(tmp_path: Path) -> None:
    main = others(tmp_path, 0)
    (tmp_path / "nodes/2/error.json").write_text("{}")
    assert main.are_over()


def test_one_whose_heartbeat_stands_still_is_given_up_in_time(tmp_path: Path) -> None:
    main, patient = others(tmp_path, 0, nodes=2, timeout_s=0), others(tmp_path, 0, nodes=2)
    status = tmp_path / "nodes/1/status.json"
    for beat in range(3):
        status.write_text(json.dumps({"at": beat}))
        assert not main.are_over()
        assert not patient.are_over()
    assert main.are_over()
    assert not patient.are_over()
