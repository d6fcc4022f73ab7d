"""What the pickers offer: models on this machine, adapters, trainable datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio import templates, trackers
from studio.config.train import TrainConfig
from studio.config.train.reward import REWARDS
from studio.models import BUNDLED, cached_hub_ids, local_models
from studio.runs import outputs
from studio.runs.run import Run
from studio.ui.context import Context

Choices = list[tuple[str, str]]
BEST_BY = ("loss", "perplexity", "token_accuracy", "rewards/margins", "rewards/accuracies", "reward")


def base_models(ctx: Context) -> Choices:
    """(label, value) of every model to start from: the bundled one, those in the models folder, in the hub's cache,
    and those that finished runs made."""
    folder = ctx.settings.models_dir
    local = local_models([folder]) if folder else []
    made = [(f"{output.label} ({output.run.kind})", str(output.path)) for output in outputs.models(ctx.store)]
    hub = [(name, name) for name in cached_hub_ids()]
    return [(BUNDLED, BUNDLED), *((path.name, str(path)) for path in local), *made, *hub]


def adapters(ctx: Context) -> Choices:
    """(label, folder) of every finished adapter, newest first."""
    return [(output.label, str(output.path)) for output in outputs.adapters(ctx.store)]


def checkpoints(ctx: Context) -> Choices:
    """(label, folder) of every checkpoint of an adapter, those of the newest training first, the last step first."""
    found = ((run, path) for run in ctx.store.list("train") for path in reversed(run.checkpoints()))
    return [(f"{run.name} · {path.name}", str(path)) for run, path in found if (path / "adapter_config.json").exists()]


def finished(ctx: Context) -> Choices:
    """(label, run id) of everything that finished runs made, newest first."""
    return [(f"{output.label} ({output.path.name})", output.run.id) for output in outputs.finished(ctx.store)]


def reward_models(ctx: Context) -> Choices:
    """(label, id) of every finished rm run, newest first."""
    made = [*outputs.adapters(ctx.store), *outputs.models(ctx.store)]
    return sorted(((each.label, each.run.id) for each in made if _rates(each.run)), key=lambda pair: pair[1])[::-1]


def training(ctx: Context) -> dict[str, Sequence[Any]]:
    """What the Train form offers for its options, beside free text."""
    models, sets = base_models(ctx), datasets(ctx)
    return {
        "model_name_or_path": models,
        "adapter_name_or_path": adapters(ctx),
        "template": templates.names(),
        "dataset": sets,
        "eval_dataset": sets,
        "ref_model": models,
        "reward_funcs": REWARDS,
        "reward_model": reward_models(ctx),
        "metric_for_best_model": BEST_BY,
        "report_to": tuple(trackers.PACKAGES),
    }


def datasets(ctx: Context) -> list[str]:
    """Names of the datasets that can be used here."""
    return [entry.name for entry in ctx.registry.entries() if not entry.note]


def label_of(choices: Choices, value: str) -> str:
    """How a picker names a value."""
    return next((label for label, known in choices if known == value), Path(value).name)


def _rates(run: Run) -> bool:
    config = run.config
    return isinstance(config, TrainConfig) and config.stage == "rm"
