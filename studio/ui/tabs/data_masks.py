"""One row of the chosen dataset as the tokens that a model is given: which are trained, which fall off."""

from __future__ import annotations

from typing import Any

import gradio as gr

from studio.datasets import preview
from studio.datasets.loading import Fault
from studio.datasets.masking import Masking, Piece, Segment
from studio.errors import DatasetError
from studio.ui import panel
from studio.ui.context import Context
from studio.ui.form import Form
from studio.ui.panel import LATEST, Answer
from studio.ui.tabs.data_statistics import MASKING, asked_config, draw_settings, follow

# what a browser draws at once without a pause; the figures count all of them
SHOWN_TOKENS = 8000
TRAINED, SPECIAL, CUT = 1, 2, 4


def build(ctx: Context, chosen: gr.HTML, measured: Form) -> None:
    """Draw the panel of the set whose name is in `chosen`; its settings and `measured` stay the same."""

    def mask(asked: list[Any]) -> Answer:
        return on_mask(ctx, *asked)

    settings = draw_settings(ctx, MASKING, "mask")
    drawn = panel.draw("data_masks", [mask])
    follow(settings, chosen, drawn)
    forms = [[form.component(key) for key in MASKING] for form in (settings, measured)]
    for here, there in (forms, forms[::-1]):
        # what a person typed only: an update is no input, so they do not answer each other for ever
        gr.on([field.input for field in here], same, here, there, **LATEST)


def on_mask(ctx: Context, subject: str, row: int) -> Answer:
    """Row `row` as tokens: for each sequence its label, its figures, and its first pieces as [id, text, flags]."""
    config = asked_config(subject)
    [name] = config.dataset
    scanned, total = preview.row(ctx.registry, name, int(row))
    about = {"row": scanned.mark.row, "total": total}
    if isinstance(scanned.value, Fault):
        return {**about, "fault": scanned.value.what}
    try:
        view = ctx.inspector.mask(
            str(config.model_name_or_path), scanned.value, Masking.of(config), config.trust_remote_code
        )
    except DatasetError as error:
        return {**about, "fault": str(error)}
    return {**about, "segments": [_told(segment) for segment in view.segments]}


def same(*values: Any) -> list[Any]:
    """The values of one form for the other."""
    return list(values)


def _told(segment: Segment) -> dict[str, Any]:
    kept = [piece for piece in segment.pieces if not piece.cut]
    return {
        "label": segment.label,
        "tokens": len(segment.pieces),
        "trained": sum(piece.trained for piece in kept),
        "cut": len(segment.pieces) - len(kept),
        "pieces": [(piece.id, piece.text, _flags(piece)) for piece in segment.pieces[:SHOWN_TOKENS]],
    }


def _flags(piece: Piece) -> int:
    return TRAINED * piece.trained | SPECIAL * piece.special | CUT * piece.cut
