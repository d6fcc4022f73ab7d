"""What the pickers offer: models on this machine, adapters, trainable datasets."""

from __future__ import annotations

from pathlib import Path

from studio.models import BUNDLED, cached_hub_ids, local_models
from studio.runs import outputs
from studio.ui.context import Context

Choices = list[tuple[str, str]]


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


def datasets(ctx: Context) -> list[str]:
    """Names of the datasets that can be used here."""
    return [entry.name for entry in ctx.registry.entries() if not entry.note]


def label_of(choices: Choices, value: str) -> str:
    """How a picker names a value."""
    return next((label for label, known in choices if known == value), Path(value).name)
