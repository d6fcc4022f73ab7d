"""One pane of the Compare page: who answers, the answers, the figures below them, and what can be done with them."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from studio.settings import ASSETS
from studio.ui.panel import QUIET
from studio.ui.tabs.chat import sampling
from studio.ui.tabs.chat.setup import LETTERS
from studio.ui.text import said

ASK = "Ask something below: all models answer at once."
# no single dollar: prices are written with it, too
LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]


@dataclass(frozen=True)
class Column:
    """The components of a pane; `own` are the widgets of a sampling of its own."""

    column: gr.Column
    pick: gr.Dropdown
    remove: gr.Button
    remark: gr.HTML
    chat: gr.Chatbot
    figures: gr.HTML
    tokens: gr.HTML
    about: gr.HTML
    versions: gr.Row
    earlier: gr.Button
    later: gr.Button
    turn: gr.State
    offer: gr.State
    offered: gr.Button
    stop: gr.Button
    again: gr.Button
    branch: gr.Button
    is_own: gr.Checkbox
    own: list[Component]

    @property
    def look(self) -> list[Component | gr.Row]:
        """What `talk.look` sets."""
        return [
            self.chat, self.figures, self.tokens, self.about, self.versions, self.turn, self.offer, self.offered,
            self.stop,
        ]  # fmt: skip

    @property
    def setup(self) -> list[Component]:
        """What `setup` reads and writes."""
        return [self.pick, self.is_own, *self.own]


def build(at: int) -> Column:
    """Draw pane number `at`, counted from 0; its element ids count from 1."""
    name = f"chat-{at + 1}"
    with gr.Column(min_width=260, elem_classes="chat-pane", visible=at < 2, elem_id=f"{name}-pane") as column:
        pick, remove = _head(at, name)
        remark = gr.HTML("", elem_id=f"{name}-remark", padding=False)
        chat = _chatbot(name)
        figures = gr.HTML("", elem_id=f"{name}-figures", min_height=20, padding=False)
        about = gr.HTML("", elem_id=f"{name}-about", padding=False, elem_classes="maybe")
        tokens = _tokens(name)
        offered = gr.Button("", visible=False, size="sm", variant="primary", elem_id=f"{name}-offer")
        with gr.Row(elem_classes="actions"):
            stop = small("Stop", "停止", f"{name}-stop", interactive=False)
            again = small("Regenerate", "重新生成", f"{name}-again")
            branch = small("Branch", "分支", f"{name}-branch")
            with gr.Row(visible=False, elem_classes="actions versions") as versions:
                earlier = gr.Button("‹", size="sm", min_width=36, elem_id=f"{name}-earlier")
                later = gr.Button("›", size="sm", min_width=36, elem_id=f"{name}-later")
            is_own = gr.Checkbox(
                False, label=said("Own sampling", "单独采样"), container=False, elem_id=f"{name}-is-own", min_width=60
            )
        with gr.Column(visible=False, elem_id=f"{name}-own") as own_group:
            own = sampling.widgets(f"{name}-own")
    is_own.change(lambda ticked: gr.update(visible=ticked), is_own, own_group, **QUIET)
    return Column(
        column, pick, remove, remark, chat, figures, tokens, about, versions, earlier, later, gr.State(-1),
        gr.State(None), offered, stop, again, branch, is_own, own,
    )  # fmt: skip


def _head(at: int, name: str) -> tuple[gr.Dropdown, gr.Button]:
    with gr.Row(elem_classes="pane-head"):
        gr.HTML(f"<b>{LETTERS[at]}</b>", padding=False, elem_classes="pane-letter")
        pick = gr.Dropdown(
            [], value=None, label=said(f"Model {LETTERS[at]}", f"模型 {LETTERS[at]}"), allow_custom_value=True,
            container=False, elem_id=f"{name}-pick", scale=1, min_width=160,
        )  # fmt: skip
        remove = gr.Button("✕", size="sm", scale=0, min_width=36, elem_id=f"{name}-remove")
    return pick, remove


def _chatbot(name: str) -> gr.Chatbot:
    return gr.Chatbot(
        show_label=False,
        placeholder=ASK,
        buttons=["copy"],
        editable="user",
        allow_tags=False,
        latex_delimiters=LATEX,
        elem_id=name,
        elem_classes="chatbot-pane",
    )


def _tokens(name: str) -> gr.HTML:
    script = (ASSETS / "web" / "chat_tokens.js").read_text(encoding="utf-8")
    return gr.HTML("", js_on_load=script, elem_id=f"{name}-tokens", padding=False, elem_classes="maybe")


def small(english: str, chinese: str, elem_id: str, interactive: bool = True) -> gr.Button:
    """A small button."""
    return gr.Button(said(english, chinese), size="sm", min_width=60, elem_id=elem_id, interactive=interactive)
