"""The Export tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from studio.ui.context import Context


@dataclass(frozen=True)
class ExportTab:
    """`started` holds the id of the merge that was started last; `chat` carries the folder in `model` to the Chat tab."""

    adapter: gr.Dropdown
    started: gr.State
    chat: gr.Button
    model: gr.State


def build(ctx: Context, tab: gr.Tab) -> ExportTab:
    return ExportTab(gr.Dropdown([], allow_custom_value=True), gr.State(""), gr.Button("Chat with the merged model"), gr.State(""))
