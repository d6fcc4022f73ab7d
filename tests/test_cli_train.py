"""What `python -m studio train` does before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio import preflight
from studio.cli import train
from studio.config.load import parse_yaml
from studio.config.serve import ServeConfig
from studio.datasets.registry import Registry
from studio.errors import ConfigError
from studio.files import write_json
from studio.machine import GB, Machine
from studio.runs import launchers
from studio.runs.run import State
from studio.runs.store import Store
from studio.settings import ROOT


def test_words_of_the_environment_start_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As LLaMA-Factory's users have them in their scripts."""
    for word, value in {"NNODES": "2", "NPROC_PER_NODE": "4", "MASTER_ADDR": "10.0.0.1", "NODE_RANK": "0"}.items():
        monkeypatch.setenv(word, value)
    assert _dry("dataset=alpaca_demo", capsys)["nnodes"] == 1
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    found = _dry("dataset=alpaca_demo", capsys)
    assert [found[key] for key in ("parallel_strategy", "nnodes", "nproc_per_node")] == ["ddp", 2, 4]
    assert found["master_addr"] == "10.0.0.1"
    found = _dry("dataset=alpaca_demo deepspeed=ds_z3_config.json nproc_per_node=1", capsys)
    assert [found[key] for key in ("parallel_strategy", "nproc_per_node")] == ["zero3", 1]
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ConfigError, match="start the training on machine 0"):
        train.main(["dataset=alpaca_demo", "--dry-run"])


def _dry(words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert train.main([*words.split(), "--dry-run"]) == 0
    return parse_yaml(capsys.readouterr().out, "the configuration")


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
