"""The Compare page: one prompt, two models, both answers side by side as they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.errors import SeedbedError
from studio.serving import servers, speaker
from studio.serving.client import Sampling
from studio.serving.panes import Pane, Round
from studio.serving.speaker import Speaker
from studio.serving.wording import wording
from studio.ui import conversation
from studio.ui.context import Context
from studio.ui.conversation import Turn
from studio.ui.doors import shown
from studio.ui.form import AUTO, FROM_TRISTATE, TRISTATE
from studio.ui.tabs.chat import strip
from studio.ui.tabs.chat.pickers import offers, pair, remark
from studio.ui.text import said

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
SAMPLING = Sampling(temperature=0, top_p=0.9)  # greedy: what differs between two answers is the models, not luck
ASK = "Ask something below: both models answer at once."
NOTHING_TUNED = "No tuned model yet: train one in the Train tab."

Shown = tuple[list[Turn], str]  # a conversation and the line of figures below it


@dataclass(frozen=True)
class ChatTab:
    """What other tabs change: `right` is the second pane's picker; its value is a model or adapter folder."""

    right: gr.Dropdown


@dataclass(frozen=True)
class Side:
    """The components of one pane."""

    pick: gr.Dropdown
    remark: gr.HTML
    chat: gr.Chatbot
    figures: gr.HTML


@dataclass(frozen=True)
class Buttons:
    """What is pressed below the prompt."""

    send: gr.Button
    again: gr.Button
    stop: gr.Button
    clear: gr.Button


@dataclass(frozen=True)
class ServerRow:
    """The servers' cards and what starts and stops them."""

    status: gr.HTML
    start: gr.Button
    stop: gr.Button


def build(ctx: Context, tab: gr.Tab) -> ChatTab:
    """Draw the tab and wire it."""
    row = _server_row(ctx)
    with gr.Row(elem_id="chat-panes"):
        left = _pane("left", said("Left", "左侧"))
        right = _pane("right", said("Right", "右侧"))
    prompt, buttons = _prompt_row()
    settings = _settings()
    _wire_servers(ctx, row, left, right, tab)
    _wire_talk(ctx, row.status, left, right, prompt, buttons, settings)
    return ChatTab(right.pick)


def on_open(ctx: Context) -> tuple[Any, Any, Any]:
    """Offer what exists now."""
    found = offers(ctx)
    tuned = any(not label.endswith(" · base") for label, _ in found)
    return gr.update(choices=found), gr.update(choices=found), gr.update(placeholder=ASK if tuned else NOTHING_TUNED)


def on_opened(ctx: Context, left: str | None, right: str | None) -> tuple[Any, Any, str]:
    """Pick a pair where nothing is picked yet, and look for its servers."""
    chosen = pair(ctx, left, right, left_is_free=False)
    return (
        chosen[0] if left is None else gr.skip(),
        chosen[1] if right is None else gr.skip(),
        strip.watched(*chosen),
    )


def on_left(ctx: Context, left: str | None, right: str | None) -> tuple[list[Turn], str, str, str]:
    """Another model answers on the left: its conversation starts anew, the right one stays."""
    return [], "", remark(ctx, left or ""), strip.watched(left, right)


def on_right(ctx: Context, left: str | None, right: str | None, left_chat: list[Turn]) -> tuple[Any, ...]:
    """Another model answers on the right; the left side shows its base, as long as nothing was asked there."""
    left, right = pair(ctx, left, right, left_is_free=not left_chat)
    found = offers(ctx)
    return (
        gr.update(choices=found, value=left),
        gr.update(choices=found),
        [],
        "",
        remark(ctx, right),
        strip.watched(left, right),
    )


def on_servers(ctx: Context, left: str | None, right: str | None) -> tuple[str, str, Any, Any]:
    """A server came, changed or went: what is said of both picks, and whether Start and Stop can be pressed."""
    states = {card.state for card in strip.cards(ctx, strip.speakers([left, right]))}
    return (
        remark(ctx, left or ""),
        remark(ctx, right or ""),
        gr.update(interactive=bool(states & {"off", "failed"})),
        gr.update(interactive=bool(states & {"starting", "ready"})),
    )


@shown
def on_start(ctx: Context, left: str | None, right: str | None) -> str:
    """Start what the two picks need."""
    strip.start(ctx, [left, right])
    return strip.watched(left, right)


def on_stop_servers(ctx: Context, left: str | None, right: str | None) -> str:
    """Stop every model server."""
    strip.stop(ctx)
    return strip.watched(left, right)


async def on_send(
    ctx: Context,
    prompt: str,
    left: str,
    right: str,
    left_chat: list[Turn],
    right_chat: list[Turn],
    *settings: Any,
) -> AsyncGenerator[list[Any], None]:
    """Put a prompt to both models. Yields the prompt box, both conversations with their figures, and the buttons."""
    if not prompt.strip():
        yield ["", *[gr.skip()] * 7]
        return
    asked = [conversation.asked(chat, prompt) for chat in (left_chat, right_chat)]
    async with aclosing(_talk(ctx, (left, right), asked, settings)) as updates:
        async for update in updates:
            yield ["", *update]


async def on_again(
    ctx: Context, left: str, right: str, left_chat: list[Turn], right_chat: list[Turn], *settings: Any
) -> AsyncGenerator[list[Any], None]:
    """Have both models answer their last prompt once more. Yields as `on_send`, without the prompt box."""
    asked = [conversation.again(chat) for chat in (left_chat, right_chat)]
    async with aclosing(_talk(ctx, (left, right), asked, settings)) as updates:
        async for update in updates:
            yield update


def on_stop(left_figures: str, right_figures: str) -> list[Any]:
    """The answers were cut off by the page; what has come stays."""
    return [conversation.halted(left_figures), conversation.halted(right_figures), *_pressable(answering=False)]


def on_clear() -> list[Any]:
    """Both conversations begin anew."""
    return [[], "", [], "", *_pressable(answering=False)]


async def _talk(
    ctx: Context, picks: Sequence[str], asked: Sequence[list[Turn]], settings: Sequence[Any]
) -> AsyncGenerator[list[Any], None]:
    """Both conversations with their figures as they grow, each at its own pace, and the buttons."""
    together = strip.speakers(picks)
    system, sampling = str(settings[0]), _sampling(*settings[1:])
    answers = [_answer(ctx, *pane, together, system, sampling) for pane in zip(picks, asked, strict=True)]
    now: list[Shown] = [(turns, conversation.waiting({}) if turns else "") for turns in asked]
    yield [*now[0], *now[1], *_pressable(answering=True)]
    async with aclosing(conversation.abreast(answers)) as updates:
        async for newest in updates:
            now = [new or old for new, old in zip(newest, now, strict=True)]
            yield [*now[0], *now[1], *[gr.skip()] * 3]
    yield [*now[0], *now[1], *_pressable(answering=False)]


async def _answer(
    ctx: Context, pick: str, turns: list[Turn], together: Sequence[Speaker], system: str, sampling: Sampling
) -> AsyncGenerator[Shown, None]:
    """One pane: its server is started and its adapter loaded if need be, then it answers. An error is a note in it."""
    if not turns:
        return
    try:
        who = speaker.speaker(pick)
        run = await asyncio.to_thread(speaker.start, ctx.store, who.base, together)
        async for status in servers.starting(run):
            yield turns, conversation.waiting(status)
        yield turns, conversation.waiting({"message": "loading the adapter"} if who.adapter else {})
        server, name = await servers.open_model(ctx.store, who.base, who.adapter)
        pane = Pane(server, name, conversation.messages(turns, system), sampling, wording(who, together))
        async with aclosing(Round([pane]).stream()) as views:
            async for (view,) in views:
                yield conversation.answered(turns, view), conversation.figures(view)
    except SeedbedError as error:
        yield [*turns, conversation.note(str(error))], ""


def _sampling(
    temperature: float,
    top_p: float,
    top_k: int,
    max_tokens: int,
    repetition_penalty: float,
    seed: int,
    thinking: str = AUTO,
) -> Sampling:
    """The widgets' values; zero, or nothing, leaves top_k, max_tokens and seed to the server."""
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k or None,
        max_tokens=max_tokens or None,
        repetition_penalty=repetition_penalty,
        seed=seed or None,
        enable_thinking=FROM_TRISTATE[thinking],
    )


def _pressable(answering: bool) -> list[Any]:
    """Send, Regenerate and Stop."""
    return [gr.update(interactive=can) for can in (not answering, not answering, answering)]


def _server_row(ctx: Context) -> ServerRow:
    with gr.Row(elem_id="chat-server-row"):
        with gr.Column(min_width=260):
            status = strip.component(ctx)
        with gr.Column(scale=0, min_width=220), gr.Row(elem_classes="actions"):
            start = gr.Button(
                said("Start server", "启动服务"), elem_id="server-start", size="sm", min_width=100, interactive=False
            )
            stop = gr.Button(
                said("Stop server", "停止服务"), elem_id="server-stop", size="sm", min_width=100, interactive=False
            )
    return ServerRow(status, start, stop)


def _pane(side: str, label: gr.i18n.I18nData) -> Side:
    with gr.Column(min_width=300, elem_classes="chat-pane"):
        pick = gr.Dropdown([], value=None, label=label, allow_custom_value=True, elem_id=f"chat-{side}-pick")
        about = gr.HTML("", elem_id=f"chat-{side}-remark")
        chat = gr.Chatbot(
            show_label=False,
            placeholder=ASK,
            buttons=["copy"],
            allow_tags=False,
            reasoning_tags=[("<think>", "</think>")],
            elem_id=f"chat-{side}",
            elem_classes="chatbot-pane",
        )
        figures = gr.HTML("", elem_id=f"chat-{side}-figures", min_height=24)
    return Side(pick, about, chat, figures)


def _prompt_row() -> tuple[gr.Textbox, Buttons]:
    prompt = gr.Textbox(
        lines=1,
        max_lines=8,
        container=False,
        label=said("Prompt", "提示词"),
        placeholder=said("Ask both: Enter sends, Shift+Enter is a new line", "同时提问：回车发送，Shift+回车换行"),
        elem_id="chat-prompt",
    )
    with gr.Row(elem_classes="actions"):
        send = gr.Button(said("Send", "发送"), variant="primary", elem_id="chat-send", size="md", min_width=110)
        stop = gr.Button(said("Stop", "停止"), elem_id="chat-stop", size="md", min_width=80, interactive=False)
        again = gr.Button(said("Regenerate", "重新生成"), elem_id="chat-again", size="md", min_width=110)
        clear = gr.Button(said("Clear", "清空"), elem_id="chat-clear", size="md", min_width=80)
    return prompt, Buttons(send, again, stop, clear)


def _settings() -> list[Component]:
    """The system prompt, then what `_sampling` takes, in its order."""
    with gr.Accordion(said("System prompt and sampling", "系统提示词与采样"), open=False, elem_id="chat-settings"):
        system = gr.Textbox(lines=2, label=said("System prompt", "系统提示词"), elem_id="chat-system")
        with gr.Row(equal_height=True, elem_classes="form-row"):
            return [system, *_sampling_widgets()]


def _sampling_widgets() -> list[Component]:
    return [
        gr.Slider(
            0, 2, SAMPLING.temperature, step=0.05, label=said("Temperature", "温度"),
            info=said("0 always takes the likeliest token.", "0 表示始终取概率最高的 token。"),
            elem_id="chat-temperature", min_width=250,
        ),
        gr.Slider(
            0.05, 1, SAMPLING.top_p, step=0.05, label="top_p",
            info=said("Only the likeliest tokens that add up to this share.", "仅从累计概率达到该值的 token 中采样。"),
            min_width=250,
        ),
        gr.Number(
            0, precision=0, minimum=0, label="top_k",
            info=said("Only so many of the likeliest tokens; 0 means all.", "仅从前 k 个 token 采样；0 表示不限。"),
            min_width=250,
        ),
        gr.Number(
            SAMPLING.max_tokens, precision=0, minimum=1, label=said("Longest answer", "最长回答"),
            info=said("In tokens, at most.", "最多 token 数。"),
            elem_id="chat-max-tokens", min_width=250,
        ),
        gr.Slider(
            0.8, 2, SAMPLING.repetition_penalty, step=0.05, label=said("Repetition penalty", "重复惩罚"),
            info=said("Above 1, words that were said become less likely.", "大于 1 时降低已出现词的概率。"),
            min_width=250,
        ),
        gr.Number(
            0, precision=0, minimum=0, label=said("Seed", "随机种子"),
            info=said("The same seed gives the same answer; 0 draws anew.", "相同种子得到相同回答；0 表示随机。"),
            elem_id="chat-seed", min_width=250,
        ),
        gr.Dropdown(
            TRISTATE, value=AUTO, label=said("Thinking", "思考模式"),
            info=said("For models that can think before they answer.", "适用于可先思考再回答的模型。"),
            elem_id="chat-thinking", min_width=250,
        ),
    ]  # fmt: skip


def _wire_servers(ctx: Context, servers_row: ServerRow, left: Side, right: Side, tab: gr.Tab) -> None:
    """Who is picked decides which servers are looked at; what becomes of those is said everywhere."""
    status, start, stop = servers_row.status, servers_row.start, servers_row.stop
    picks: list[Component] = [left.pick, right.pick]
    opened = tab.select(partial(on_open, ctx), None, [*picks, right.chat], **QUIET)
    # a second step, because another tab's button may have set the right pick in the moment in which it opened this one
    opened.then(partial(on_opened, ctx), picks, [*picks, status], **QUIET)
    status.select(partial(on_servers, ctx), picks, [left.remark, right.remark, start, stop], **QUIET)
    start.click(partial(on_start, ctx), picks, status, api_name="start_servers")
    stop.click(partial(on_stop_servers, ctx), picks, status, api_name="stop_servers")


def _wire_talk(
    ctx: Context,
    status: gr.HTML,
    left: Side,
    right: Side,
    prompt: gr.Textbox,
    buttons: Buttons,
    settings: list[Component],
) -> None:
    """Asking, stopping, asking again, beginning anew; another pick begins its own side anew."""
    panes: list[Component] = [left.chat, left.figures, right.chat, right.figures]
    pressed: list[Component] = [buttons.send, buttons.again, buttons.stop]
    given: list[Component] = [left.pick, right.pick, left.chat, right.chat, *settings]
    asking: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
    sent = gr.on(
        [buttons.send.click, prompt.submit], partial(on_send, ctx), [prompt, *given], [prompt, *panes, *pressed],
        api_name="chat", **asking,
    )  # fmt: skip
    again = buttons.again.click(partial(on_again, ctx), given, [*panes, *pressed], api_name="regenerate", **asking)
    ending: dict[str, Any] = {"cancels": [sent, again], **QUIET}
    for failed in (sent, again):
        failed.failure(on_stop, [left.figures, right.figures], [left.figures, right.figures, *pressed], **QUIET)
    buttons.stop.click(on_stop, [left.figures, right.figures], [left.figures, right.figures, *pressed], **ending)
    buttons.clear.click(on_clear, None, [*panes, *pressed], **ending)
    left.pick.change(
        partial(on_left, ctx), [left.pick, right.pick], [left.chat, left.figures, left.remark, status], **QUIET
    )
    right.pick.change(
        partial(on_right, ctx), [left.pick, right.pick, left.chat],
        [left.pick, right.pick, right.chat, right.figures, right.remark, status], **QUIET,
    )  # fmt: skip
