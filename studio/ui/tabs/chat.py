"""The Chat tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from studio.ui.context import Context


@dataclass(frozen=True)
class ChatTab:
    """What other tabs change: `right` is the second pane's picker; its value is a model or adapter folder."""

    right: gr.Dropdown


def build(ctx: Context, tab: gr.Tab) -> ChatTab:
    return ChatTab(gr.Dropdown(["seedling"], allow_custom_value=True))
