"""Trackers that a training reports to beside its own folder: what they need, and where they are told to write.

Keys and addresses come from the environment of the studio alone and are written nowhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from studio import packages
from studio.errors import Problem

NONE = "none"
# tracker -> packages of which one is enough, the first to be installed
PACKAGES = {
    "tensorboard": ("tensorboardX", "tensorboard"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
FOLDER = "trackers"


def wanted(names: tuple[str, ...]) -> tuple[str, ...]:
    """The trackers among the names of `report_to`."""
    return tuple(name for name in names if name != NONE)


def problems(names: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[Problem]:
    """What keeps a training from reporting: a package or a key that is missing."""
    for name in wanted(names):
        needed = PACKAGES.get(name, ())
        if needed and not any(map(packages.is_installed, needed)):
            yield Problem("report_to", f"{name} needs a package that is not installed: pip install {needed[0]}")
        elif name == "wandb" and not _has_wandb_key(environment):
            what = "wandb needs WANDB_API_KEY in the environment of the studio, or WANDB_MODE=offline to keep all here"
            yield Problem("report_to", what)


def variables(names: tuple[str, ...], run_dir: Path) -> dict[str, str]:
    """Environment variables that keep what the trackers write in the run's folder; given ones go before them."""
    folder = run_dir / FOLDER
    every = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard")},
        "wandb": {"WANDB_DIR": str(folder), "WANDB_PROJECT": "seedbed", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"},
        "mlflow": {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_EXPERIMENT_NAME": "seedbed"},
    }
    return {key: value for name in wanted(names) for key, value in every[name].items()}


def close(names: tuple[str, ...]) -> None:
    """Have what was reported arrive before the process ends. The others do so by themselves."""
    if "wandb" in names:
        importlib.import_module("wandb").finish()


def _has_wandb_key(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("WANDB_API_KEY")) or environment.get("WANDB_MODE") in ("offline", "disabled")
