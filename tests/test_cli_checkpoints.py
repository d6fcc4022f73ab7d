"""`python -m studio runs verify` and `resume`, without the processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.cli import runs
from studio.config.train import TrainConfig
from studio.errors import NotResumable, RunError
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.store import Store
from tests.checkpoints import make_checkpoint


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A stopped training with two checkpoints, where the command looks for runs."""
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path))
    run = Store(tmp_path).create(TrainConfig(dataset="identity"))
    (run.path / "exit.json").write_text(json.dumps({"code": 10, "signal": None, "reason": "stopped", "at": 1.0}))
    for step in (10, 20):
        make_checkpoint(run.path / f"checkpoints/checkpoint-{step}", step, max_steps=40)
    return run


def spoil(run: Run) -> None:
    weights = run.path / "checkpoints/checkpoint-20/model.safetensors"
    weights.write_text(weights.read_text().replace("20", "21"))


def test_whole_checkpoints_are_said_to_be(stopped: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main(["verify", stopped.id]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["checkpoint", "files", "MB"]
    assert [line.split() for line in lines] == [
        [f"checkpoint-{step}", "3", "0.0", "single", "×", "1", "whole"] for step in (10, 20)
    ]


def test_a_damaged_one_is_named_and_the_exit_code_tells(stopped: Run, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(stopped)
    assert runs.main(["verify", stopped.id]) == 1
    assert "DAMAGED  model.safetensors was altered" in capsys.readouterr().out
    assert runs.main(["verify", stopped.id, "--step", "10"]) == 0
    assert runs.main(["verify", stopped.id, "--quick"]) == 0
    assert "sizes are right" in capsys.readouterr().out


def test_what_is_not_there_cannot_be_verified(stopped: Run) -> None:
    with pytest.raises(RunError, match="no checkpoint of step 3; it has checkpoint-10, checkpoint-20"):
        runs.main(["verify", stopped.id, "--step", "3"])


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Runs that were to be started."""
    begun: list[Run] = []
    monkeypatch.setattr(launchers, "start_new", lambda store, run: begun.append(run) or run)
    return begun


def test_options_stand_anywhere_behind_the_id(
    stopped: Run, begun: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [stopped.id, "--step", "10", "max_steps=90", "--scope", "no_scheduler", "learning_rate=1e-6", "--detach"]
    assert runs.main(["resume", *words]) == 0
    [run] = begun
    config = run.config
    assert isinstance(config, TrainConfig)
    assert (config.max_steps, config.learning_rate, config.resume_scope) == (90, 1e-6, "no_scheduler")
    assert config.resume_from_checkpoint == "checkpoints/checkpoint-10"
    told = capsys.readouterr()
    assert told.out.strip() == run.id
    assert "warning: the schedule begins anew at step 10" in told.err


def test_what_cannot_be_starts_nothing(stopped: Run, begun: list[Run]) -> None:
    with pytest.raises(NotResumable, match="lora_rank"):
        runs.main(["resume", stopped.id, "lora_rank=3", "--detach"])
    assert begun == []
    assert Store(stopped.path.parent).list() == [stopped]


def test_only_resume_takes_options(stopped: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runs.main(["verify", stopped.id, "max_steps=3"])
    assert "max_steps=3: only resume takes options of the training" in capsys.readouterr().err
