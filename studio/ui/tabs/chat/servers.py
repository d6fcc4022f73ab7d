"""The Servers page: model servers, their adapters and their load."""

from __future__ import annotations

import gradio as gr

from studio.ui.context import Context


def build(ctx: Context, tab: gr.Tab) -> None:
    """Draw the page and wire it; `tab` is the page's own."""
