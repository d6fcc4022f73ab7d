"""The Datasets tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from studio.ui.context import Context


@dataclass(frozen=True)
class DatasetsTab:
    """What other tabs listen to: `train` carries the name in `chosen` to the Train tab."""

    train: gr.Button
    chosen: gr.State


def build(ctx: Context, tab: gr.Tab) -> DatasetsTab:
    return DatasetsTab(gr.Button("Train on it"), gr.State(""))
