"""The Benchmark page: how fast model servers answer."""

from __future__ import annotations

import gradio as gr

from studio.ui.context import Context


def build(ctx: Context, tab: gr.Tab) -> None:
    """Draw the page and wire it; `tab` is the page's own."""
