"""A panel of the chosen dataset: a script in the page that asks the server, and draws what it is told."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, cast

import gradio as gr
import msgspec

from studio.config.data import DataConfig
from studio.errors import SeedbedError
from studio.settings import ASSETS
from studio.ui.context import Context

Answer = dict[str, Any] | None
# a value that changes past the queue still reaches the page; only its errors would not
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# of events that come while one is under way Gradio hears none, unless told so: here the last of them, without its data
LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}


def draw(
    name: str,
    functions: Sequence[Callable[[Any], Answer | Awaitable[Answer]]],
    shared: Sequence[str] = (),
    value: str = "",
    elem_id: str | None = None,
    elem_classes: str = "",
    render: bool = True,
) -> gr.HTML:
    """The component of `assets/web/NAME.js`, which may call `functions`; its `value` says what it is about.

    What takes long is a coroutine: the others hold one of the few threads that all handlers share.

    The script finds what panel.js and the scripts called `shared` declare.
    """
    parts = ("panel", *shared, name)
    script = "".join((ASSETS / "web" / f"{part}.js").read_text(encoding="utf-8") for part in parts)
    return gr.HTML(
        value, html_template='<div class="panel"></div>', js_on_load=script,
        elem_id=elem_id or name.replace("_", "-"), elem_classes=elem_classes, render=render,
        server_functions=[_answered(function) for function in functions],
    )  # fmt: skip


def unless_known(known: str, answer: dict[str, Any]) -> Answer:
    """`answer` with its stamp, or None where the page has it already: `known` is the stamp of what it has."""
    stamp = f"{zlib.crc32(msgspec.json.encode(answer)):08x}"
    return None if stamp == known else {"stamp": stamp, **answer}


def is_busy(ctx: Context, name: str, *actions: str) -> bool:
    """Whether one of `actions` is being done to the set called `name`."""
    about = (run for run in ctx.store.list("data") if _is_about(run.config, name, actions))
    return any(run.is_active for run in about)


def _is_about(config: object, name: str, actions: Sequence[str]) -> bool:
    return isinstance(config, DataConfig) and name in config.dataset and config.action in actions


def _answered(function: Callable[[Any], Answer | Awaitable[Answer]]) -> Callable[[Any], Answer | Awaitable[Answer]]:
    """An error made for the user becomes the answer, `{"error": …}`; anything else is a bug and stays loud."""

    @wraps(function)
    def guarded(asked: Any) -> Answer | Awaitable[Answer]:
        try:
            return function(asked)
        except SeedbedError as error:
            return {"error": str(error)}

    @wraps(function)
    async def awaited(asked: Any) -> Answer:
        try:
            return await cast(Awaitable[Answer], function(asked))
        except SeedbedError as error:
            return {"error": str(error)}

    return awaited if iscoroutinefunction(function) else guarded
