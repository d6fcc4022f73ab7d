"""A training that reports to a tracker too, for real."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio import trackers
from studio.errors import ConfigError
from tests.worker.conftest import Train

SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN")


def test_tensorboard_gets_the_figures_in_the_folder_of_the_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    for name in SECRETS:
        monkeypatch.setenv(name, "hush-hush-hush")
    # the training sets it for its own process, which here is that of all tests: so it is gone after this one
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    run = train(report_to="tensorboard", max_steps=4)
    scalars = list(_scalars(run.run_dir / trackers.FOLDER / "tensorboard"))
    assert [(step, round(value, 4)) for tag, step, value in scalars if tag == "train/loss"] == [
        (step, round(loss, 4)) for step, loss in run.losses.items()
    ]
    assert {tag for tag, _, _ in scalars} >= {"train/learning_rate", "train/grad_norm"}
    files = [path for path in run.run_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if b"hush-hush-hush" in path.read_bytes()]


def test_a_tracker_that_is_missing_ends_the_training_before_it_begins(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match="pip install mlflow"):
        train(report_to="mlflow")


def _scalars(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of what TensorBoard would draw."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.iterdir():
        data = path.read_bytes()
        while data:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    yield value.tag, event.step, value.simple_value
