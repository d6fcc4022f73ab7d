"""What the chosen dataset amounts to in tokens of one model: lengths, what a cutoff takes, what an epoch costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from studio import templates
from studio.config import load
from studio.config.data import DataConfig
from studio.config.option import options
from studio.config.train import TrainConfig
from studio.datasets import statistics
from studio.datasets.statistics import Statistics, percentile
from studio.models import BUNDLED
from studio.ui import choices, form, jobs, panel
from studio.ui.context import Context
from studio.ui.form import Form
from studio.ui.panel import LATEST, QUIET, Answer
from studio.ui.tabs.data_checks import told_finding

MASKING = (
    "model_name_or_path", "template", "enable_thinking", "cutoff_len", "default_system", "train_on_prompt",
    "mask_history",
)  # fmt: skip
TRAINING = {option.key: option.default for option in options(TrainConfig)}


def build(ctx: Context, chosen: gr.HTML) -> tuple[gr.HTML, Form]:
    """Draw the panel of the set whose name is in `chosen`, and the settings that it measures with.

    Its `select` fires with the `row` that a person wants to see.
    """

    def look(asked: list[str]) -> Answer:
        return on_look(ctx, *asked)

    def measure(subject: str) -> Answer:
        return on_measure(ctx, subject)

    settings = draw_settings(ctx, (*MASKING, "measured_rows"), "measure")
    drawn = panel.draw("data_statistics", [look, measure], shared=["plot", "finding"])
    follow(settings, chosen, drawn)
    model = settings.component("model_name_or_path")
    chosen.change(partial(on_open, ctx), None, model, **QUIET)
    # the line of the chart becomes the setting
    drawn.apply(on_cutoff, None, settings.component("cutoff_len"), **QUIET)
    return drawn, settings


def draw_settings(ctx: Context, keys: tuple[str, ...], prefix: str) -> Form:
    """Draw the options called `keys`: what decides how rows become tokens."""
    offered: dict[str, Sequence[Any]] = {"model_name_or_path": choices.base_models(ctx), "template": templates.names()}
    drawn = form.draw_some(DataConfig, keys, offered, prefix)
    drawn.component("model_name_or_path").value = BUNDLED
    return drawn


def follow(settings: Form, chosen: gr.HTML, drawn: gr.HTML) -> None:
    """Let the value of `drawn` say which set is looked at, and with which settings."""
    fields = list(settings.components)
    gr.on(
        [chosen.change, *(field.change for field in fields)], partial(subject, settings), [chosen, *fields], drawn,
        **LATEST,
    )  # fmt: skip


def subject(settings: Form, name: str, *values: Any) -> str:
    """A set and the settings as the value of a panel, which sends it back; empty while nothing is chosen."""
    # an empty number of rows means all of them, where other empty fields mean their defaults
    return json.dumps({"dataset": [name], "measured_rows": None, **settings.read(values)}) if name else ""


def asked_config(subject: str) -> DataConfig:
    """What a panel asks for, checked: it came from the page.

    Raises:
        ConfigError: it cannot be asked for like this.
    """
    return load.parse(DataConfig, {**load.parse_yaml(subject, "the panel"), "action": "statistics"})


def on_look(ctx: Context, subject: str, known: str) -> Answer:
    """The statistics if they were measured, and whether they are being measured; None where the page knows."""
    config = asked_config(subject)
    found = statistics.stored(ctx.registry, config)
    busy = panel.is_busy(ctx, config.dataset[0], "statistics")
    return panel.unless_known(known, {"statistics": _told(found) if found else None, "busy": busy})


def on_measure(ctx: Context, subject: str) -> Answer:
    """Measure in a process of its own."""
    return {"run": jobs.start(ctx, asked_config(subject))}


def on_open(ctx: Context) -> Any:
    """Offer the models that exist now."""
    return gr.update(choices=choices.base_models(ctx))


def on_cutoff(event: gr.EventData) -> int:
    """The cutoff that was chosen in the chart."""
    return int(event.cutoff)


def _told(found: Statistics) -> dict[str, Any]:
    lengths = {f"p{share}": percentile(found.lengths, share / 100) for share in (50, 95, 100)}
    return {
        **found.to_json(),
        **lengths,
        "findings": [told_finding(finding) for finding in statistics.findings(found)],
        "scale": found.scale,
        "trained_share": found.trained_share,
        "packing_efficiency": found.packing_efficiency,
        "tokens_per_epoch": found.tokens_per_epoch,
        "batch_rows": TRAINING["per_device_train_batch_size"] * TRAINING["gradient_accumulation_steps"],
        "packing": bool(TRAINING["packing"]),
    }
