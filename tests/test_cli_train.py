"""What `python -m studio train` does before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import preflight
from studio.cli import train
from studio.config.serve import ServeConfig
from studio.datasets.registry import Registry
from studio.files import write_json
from studio.machine import GB, Machine
from studio.runs import launchers
from studio.runs.run import State
from studio.runs.store import Store
from studio.settings import ROOT


def test_servers_in_the_way_are_told_of_and_stopped_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(launchers.WORKERS, "serve", "tests.fakes.worker")
    monkeypatch.setattr(train, "look", lambda saves: Machine(None, int(0.1 * GB), int(99 * GB)))
    store, registry = Store(tmp_path), Registry(ROOT / "data")
    server = store.create(ServeConfig(run_name="talker"))
    write_json(server.path / "fake.json", [["heed"]])
    launchers.start(server)
    config = preflight.train_config({"dataset": "alpaca_demo", "max_steps": 1}, registry)

    train._planned(config, registry, store, stop_servers=False)
    assert "held by the model server talker" in capsys.readouterr().err
    assert server.state is State.RUNNING
    train._planned(config, registry, store, stop_servers=True)
    assert server.state is State.STOPPED
    assert capsys.readouterr().err == ""
