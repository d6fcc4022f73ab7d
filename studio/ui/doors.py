"""The front door of every handler: an error made for the user becomes a message on the page, once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr

from studio.errors import SeedbedError

P = ParamSpec("P")
R = TypeVar("R")


def shown(handler: Callable[P, R]) -> Callable[P, R]:
    """Show a SeedbedError raised by `handler` to the user as it is; anything else is a bug and stays loud."""

    @wraps(handler)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except SeedbedError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from error

    return guarded
