"""What trackers need before a training, and where they write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from studio import trackers


def test_none_needs_nothing(tmp_path: Path) -> None:
    assert not list(trackers.problems(("none",), {}))
    assert trackers.wanted(("none",)) == ()
    assert trackers.variables(("none",), tmp_path) == {}


def test_a_missing_package_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tensorboard", "tensorboardX", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    [tensorboard, mlflow] = trackers.problems(("tensorboard", "mlflow"), {})
    assert str(tensorboard) == "report_to: tensorboard needs a package that is not installed: pip install tensorboardX"
    assert "pip install mlflow" in str(mlflow)


def test_wandb_wants_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    [problem] = trackers.problems(("wandb",), {})
    assert "WANDB_API_KEY in the environment" in str(problem)
    for given in ({"WANDB_API_KEY": "secret"}, {"WANDB_MODE": "offline"}):
        assert not list(trackers.problems(("wandb",), given))


def test_all_write_into_the_folder_of_the_run(tmp_path: Path) -> None:
    told = trackers.variables(("tensorboard", "wandb", "mlflow"), tmp_path)
    places = [told[key] for key in ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "MLFLOW_TRACKING_URI")]
    assert all(str(tmp_path / trackers.FOLDER) in place for place in places)
