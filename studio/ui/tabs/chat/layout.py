"""What stands on the Compare page, drawn: the shelf, the panes, the prompt, what judges, the servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.arena.votes import Outcome
from studio.ui.context import Context
from studio.ui.tabs.chat import chats, column, remote, sampling, strip
from studio.ui.tabs.chat.column import Column, small
from studio.ui.tabs.chat.remote import RemoteForm
from studio.ui.tabs.chat.setup import PANES
from studio.ui.text import said


@dataclass(frozen=True)
class Below:
    """What stands below the panes and concerns all of them."""

    complaint: gr.HTML
    prompt: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    clear: gr.Button
    add: gr.Button
    with_differences: gr.Checkbox
    with_tokens: gr.Checkbox
    system: gr.Textbox
    tools: gr.Code
    shared: list[Component]


@dataclass(frozen=True)
class Judging:
    """What is said about two of the answers."""

    left: gr.Dropdown
    right: gr.Dropdown
    pair: gr.Row
    differences: gr.HTML
    row: gr.Row
    text: gr.HTML
    votes: dict[Outcome, gr.Button]
    undo: gr.Button

    @property
    def shown(self) -> list[Component | gr.Row]:
        """What the handlers of `verdict` set."""
        return [self.row, self.text, self.votes["left"], self.votes["right"], self.undo]


@dataclass(frozen=True)
class ServerRow:
    """The servers' cards and what starts and stops them."""

    status: gr.HTML
    start: gr.Button
    stop: gr.Button


@dataclass(frozen=True)
class Page:
    """All of it. `chat` holds the id of the open conversation, `asking` who is to answer now."""

    chat: gr.HTML
    count: gr.State
    asking: gr.State
    columns: list[Column]
    below: Below
    judging: Judging
    servers: ServerRow
    remote: RemoteForm

    @property
    def picks(self) -> list[Component]:
        return [each.pick for each in self.columns]

    @property
    def figures(self) -> list[Component]:
        return [each.figures for each in self.columns]

    @property
    def setup(self) -> list[Component]:
        """What `Setup.of` takes."""
        below = self.below
        panes = [widget for each in self.columns for widget in each.setup]
        return [self.count, below.system, below.tools, below.with_tokens, *below.shared, *panes]

    @property
    def given(self) -> list[Component]:
        """What the handlers of `talk` are given at last."""
        return [*self.figures, *self.setup]

    @property
    def outputs(self) -> list[Any]:
        """What `talk.page` sets."""
        below, (count, *others) = self.below, self.setup
        head = [below.prompt, self.chat, self.asking, below.complaint, below.send, below.stop]
        looks = [output for each in self.columns for output in each.look]
        return [*head, *looks, count, *(each.column for each in self.columns), *others]


def draw(ctx: Context) -> Page:
    """Draw the page from top to bottom."""
    chat, count, asking = chats.draw(ctx), gr.State(2), gr.State({})
    with gr.Row(elem_id="chat-panes"):
        columns = [column.build(at) for at in range(PANES)]
    form = remote.build()
    judging = _judging()
    below = _below()
    return Page(chat, count, asking, columns, below, judging, _server_row(ctx), form)


def _judging() -> Judging:
    with gr.Row(visible=False, elem_classes="actions", elem_id="chat-votes") as row:
        text = gr.HTML("", padding=False)
        votes: dict[Outcome, gr.Button] = {
            "left": small("A is better", "A 更好", "vote-left"),
            "right": small("B is better", "B 更好", "vote-right"),
            "tie": small("Tie", "平局", "vote-tie"),
            "both_bad": small("Both bad", "都不好", "vote-both-bad"),
        }
        undo = small("Undo", "撤销", "vote-undo")
    differences = gr.HTML("", visible=False, elem_id="chat-differences", padding=False)
    with gr.Row(visible=False, elem_classes="actions", elem_id="chat-pair") as pair:
        # an event that is under way may still send the letter of a pane that is gone
        free: dict[str, Any] = {"allow_custom_value": True}
        left = gr.Dropdown(["A", "B"], value="A", label=said("Judge between", "比较"), elem_id="chat-pair-left", **free)
        right = gr.Dropdown(["A", "B"], value="B", label=said("and", "与"), elem_id="chat-pair-right", **free)
    return Judging(left, right, pair, differences, row, text, votes, undo)


def _below() -> Below:
    complaint = gr.HTML("", elem_id="chat-complaint", elem_classes="maybe", padding=False)
    prompt = gr.Textbox(
        lines=1,
        max_lines=8,
        container=False,
        label=said("Prompt", "提示词"),
        placeholder=said(
            "Ask all: Enter sends, Shift+Enter is a new line, Esc stops", "同时提问：回车发送，Shift+回车换行，Esc 停止"
        ),
        elem_id="chat-prompt",
    )
    with gr.Row(elem_classes="actions"):
        send = gr.Button(said("Send", "发送"), variant="primary", elem_id="chat-send", size="md", min_width=110)
        stop = gr.Button(said("Stop", "停止"), elem_id="chat-stop", size="md", min_width=80, interactive=False)
        again = gr.Button(said("Regenerate all", "全部重新生成"), elem_id="chat-again", size="md", min_width=110)
        clear = gr.Button(said("New conversation", "新对话"), elem_id="chat-clear", size="md", min_width=110)
        add = gr.Button(said("Add a pane", "添加窗格"), elem_id="chat-add", size="md", min_width=110)
        with_differences = gr.Checkbox(
            False, label=said("Word differences", "词级差异"), container=False, elem_id="chat-differ", min_width=60
        )
        with_tokens = gr.Checkbox(
            False, label=said("Token probabilities", "词元概率"), container=False, elem_id="chat-with-tokens",
            min_width=60,
        )  # fmt: skip
    with gr.Accordion(
        said("System prompt, tools and sampling", "系统提示词、工具与采样"), open=False, elem_id="chat-settings"
    ):
        system = gr.Textbox(lines=2, label=said("System prompt", "系统提示词"), elem_id="chat-system")
        with gr.Row(equal_height=True, elem_classes="form-row"):
            shared = sampling.widgets("chat")
        tools = gr.Code(
            "", language="json", label=said("Tools, as a JSON list", "工具（JSON 列表）"), elem_id="chat-tools",
            lines=3, max_lines=14,
        )  # fmt: skip
    return Below(complaint, prompt, send, stop, again, clear, add, with_differences, with_tokens, system, tools, shared)


def _server_row(ctx: Context) -> ServerRow:
    with gr.Row(elem_id="chat-server-row"):
        with gr.Column(min_width=260):
            status = strip.component(ctx)
        with gr.Column(scale=0, min_width=220), gr.Row(elem_classes="actions"):
            start = small("Start server", "启动服务", "server-start", interactive=False)
            stop = small("Stop server", "停止服务", "server-stop", interactive=False)
    return ServerRow(status, start, stop)
