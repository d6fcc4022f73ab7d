"""A server elsewhere as one of those who answer: its address, what it calls itself, which of its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from studio.errors import SeedbedError
from studio.serving.remotes import Remote, Remotes, probe
from studio.ui.context import Context
from studio.ui.tabs.chat.pickers import ADD, offers
from studio.ui.tabs.chat.setup import PANES
from studio.ui.text import said
from studio.ui.turns import lines_html

NOT_YET = "not chosen yet"  # in the place of a model while the server is asked for what it has


@dataclass(frozen=True)
class RemoteForm:
    """The fields of a server elsewhere; `pane` is the number of the pane that it is added for."""

    group: gr.Column
    pane: gr.State
    url: gr.Textbox
    key_env: gr.Textbox
    find: gr.Button
    model: gr.Dropdown
    name: gr.Textbox
    add: gr.Button
    cancel: gr.Button
    told: gr.HTML

    @property
    def fields(self) -> list[Any]:
        return [self.url, self.key_env, self.model, self.name]


def build() -> RemoteForm:
    """Draw the form; it is hidden until somebody wants to add a server."""
    with gr.Column(visible=False, elem_id="chat-remote", elem_classes="card wait") as group:
        gr.Markdown(
            "**A model behind a URL**: any server that speaks the OpenAI protocol, such as vLLM, SGLang, LMDeploy, "
            "TGI or Ollama. What you ask it leaves this machine if it is another one."
        )
        with gr.Row(equal_height=True):
            url = gr.Textbox(
                label=said("Address", "地址"), placeholder="http://127.0.0.1:11434", elem_id="remote-url", min_width=200
            )
            key_env = gr.Textbox(
                label=said("Variable that holds its key", "存放密钥的环境变量"), elem_id="remote-key", min_width=200,
                placeholder=said("empty if it needs none, else for example OPENAI_API_KEY", "若无需密钥则留空"),
            )  # fmt: skip
            model = gr.Dropdown(
                [],
                value=None,
                label=said("Model", "模型"),
                allow_custom_value=True,
                elem_id="remote-model",
                min_width=200,
            )
            name = gr.Textbox(
                label=said("Called", "名称"), placeholder=said("as its address", "与地址相同"), elem_id="remote-name",
                min_width=160,
            )  # fmt: skip
        told = gr.HTML("", elem_id="remote-told", padding=False)
        with gr.Row(elem_classes="actions"):
            find = gr.Button(said("Look which models it has", "查询其模型"), size="sm", elem_id="remote-find")
            add = gr.Button(said("Add it", "添加"), size="sm", variant="primary", elem_id="remote-add")
            cancel = gr.Button(said("Cancel", "取消"), size="sm", elem_id="remote-cancel")
    return RemoteForm(group, gr.State(0), url, key_env, find, model, name, add, cancel, told)


def on_wanted(index: int, pick: str, pane: int) -> tuple[Any, Any]:
    """The form is shown where a pane is to be answered in by a new server, until another one is picked there.

    The form, the pane that it is for.
    """
    if pick == ADD:
        return gr.update(visible=True), index
    return gr.update(visible=False) if index == pane else gr.skip(), gr.skip()


async def on_find(url: str, key_env: str) -> tuple[Any, str]:
    """Ask a server for its models. The picker of them, and what there is to say."""
    try:
        found = await probe(Remote("new", url, NOT_YET, key_env.strip()))
    except SeedbedError as error:
        return gr.skip(), lines_html(str(error), "bad")
    if not found:
        return gr.skip(), lines_html("It answers, and offers no model: write the name of one", "wait")
    return gr.update(choices=found, value=found[0]), lines_html(f"It has {', '.join(found)}", "good")


def on_add(ctx: Context, pane: int, url: str, key_env: str, model: str | None, name: str) -> list[Any]:
    """Keep a server and have it answer in the pane. The form, what there is to say, the picks."""
    try:
        remote = Remote(name.strip() or _called(url), url, model or "", key_env.strip())
        Remotes(ctx.store.saves).add(remote)
    except SeedbedError as error:
        return [gr.skip(), lines_html(str(error), "bad"), *[gr.skip()] * PANES]
    found = offers(ctx)
    chosen = [{"value": remote.pick} if at == pane else {} for at in range(PANES)]
    return [gr.update(visible=False), "", *(gr.update(choices=found, **each) for each in chosen)]


def on_cancel(pane: int) -> list[Any]:
    """No server is added. The form, and the picks, the pane's being empty again."""
    return [gr.update(visible=False), *(gr.update(value=None) if at == pane else gr.skip() for at in range(PANES))]


def _called(url: str) -> str:
    return urlsplit(url.strip()).netloc.rpartition("@")[2].replace(":", " ")
