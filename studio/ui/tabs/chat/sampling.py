"""How answers are drawn, as widgets: the same set for all panes together and for each pane of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.conversations.conversation import SAMPLING
from studio.serving.client import Sampling
from studio.ui.form import AUTO, FROM_TRISTATE, TO_TRISTATE, TRISTATE
from studio.ui.text import said

WIDTH_PX = 190


def widgets(prefix: str) -> list[Component]:
    """What `read` takes, in its order; element ids begin with `prefix`."""
    return [*_drawing(prefix), *_answering(prefix)]


def _drawing(prefix: str) -> list[Component]:
    """Which token comes next."""
    return [
        gr.Slider(
            0, 2, SAMPLING.temperature, step=0.05, label=said("Temperature", "温度"),
            info=said("0 always takes the likeliest token.", "0 表示始终取概率最高的 token。"),
            elem_id=f"{prefix}-temperature", min_width=WIDTH_PX,
        ),
        gr.Slider(
            0.05, 1, SAMPLING.top_p, step=0.05, label="top_p",
            info=said("Only the likeliest tokens that add up to this share.", "仅从累计概率达到该值的 token 中采样。"),
            elem_id=f"{prefix}-top-p", min_width=WIDTH_PX,
        ),
        gr.Number(
            0, precision=0, minimum=0, label="top_k",
            info=said("Only so many of the likeliest tokens; 0 means all.", "仅从前 k 个 token 采样；0 表示不限。"),
            min_width=WIDTH_PX,
        ),
        gr.Slider(
            0, 1, SAMPLING.min_p, step=0.01, label="min_p",
            info=said("Only tokens at least this likely beside the likeliest.", "仅采样相对概率不低于该值的 token。"),
            min_width=WIDTH_PX,
        ),
    ]  # fmt: skip


def _answering(prefix: str) -> list[Component]:
    """The answer as a whole."""
    return [
        gr.Number(
            SAMPLING.max_tokens, precision=0, minimum=1, label=said("Longest answer", "最长回答"),
            info=said("In tokens, at most.", "最多 token 数。"),
            elem_id=f"{prefix}-max-tokens", min_width=WIDTH_PX,
        ),
        gr.Slider(
            0.8, 2, SAMPLING.repetition_penalty, step=0.05, label=said("Repetition penalty", "重复惩罚"),
            info=said("Above 1, words that were said become less likely.", "大于 1 时降低已出现词的概率。"),
            min_width=WIDTH_PX,
        ),
        gr.Number(
            0, precision=0, minimum=0, label=said("Seed", "随机种子"),
            info=said("The same seed gives the same answer; 0 draws anew.", "相同种子得到相同回答；0 表示随机。"),
            elem_id=f"{prefix}-seed", min_width=WIDTH_PX,
        ),
        gr.Dropdown(
            TRISTATE, value=AUTO, label=said("Thinking", "思考模式"),
            info=said("For models that can think before they answer.", "适用于可先思考再回答的模型。"),
            elem_id=f"{prefix}-thinking", min_width=WIDTH_PX,
        ),
    ]  # fmt: skip


def read(
    temperature: float,
    top_p: float,
    top_k: int | None,
    min_p: float,
    max_tokens: int | None,
    repetition_penalty: float,
    seed: int | None,
    thinking: str,
) -> Sampling:
    """The widgets' values; zero, or nothing, leaves top_k, max_tokens and seed to the server."""
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k or None,
        min_p=min_p,
        max_tokens=max_tokens or None,
        repetition_penalty=repetition_penalty,
        seed=seed or None,
        enable_thinking=FROM_TRISTATE[thinking],
    )


def write(sampling: Sampling) -> Sequence[Any]:
    """Values of the widgets that show `sampling`."""
    return (
        sampling.temperature,
        sampling.top_p,
        sampling.top_k or 0,
        sampling.min_p,
        sampling.max_tokens,
        sampling.repetition_penalty,
        sampling.seed or 0,
        TO_TRISTATE[sampling.enable_thinking],
    )
