"""What becomes of the model servers whose memory a training needs: asked while it matters, done before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from studio.errors import ConfigError, Problem
from studio.serving import neighbours
from studio.serving.neighbours import Neighbour

STOP, SLEEP, KEEP = "stop", "sleep", "keep"
ANSWERS = {STOP: "Stop it first", SLEEP: "Let it sleep meanwhile", KEEP: "Start anyway"}
WHERE = "model server"


def draw() -> gr.Radio:
    """The question, out of sight until it is asked."""
    return gr.Radio(_choices(()), value=None, visible=False, elem_id="train-servers", label=WHERE)


def question(found: Sequence[Neighbour], answer: str | None) -> Any:
    """The question about these servers, if there are any. No answer outlives its question; one that a person gives
    during a look stays."""
    if not found:
        return gr.update(visible=False, choices=_choices(()), value=None, label=WHERE)
    offered = _choices(found)
    asked = {"visible": True, "choices": offered, "label": f"{neighbours.sentence(found)}."}
    is_void = answer is not None and answer not in [value for _, value in offered]
    return gr.update(**asked, value=None) if is_void else gr.update(**asked)


def freed_gb(found: Sequence[Neighbour], answer: str | None) -> float:
    """What the training may count on besides: while nothing is answered, that they go."""
    return 0.0 if answer == KEEP else sum(each.held_gb for each in found)


def make_room(found: Sequence[Neighbour], answer: str | None) -> None:
    """Do as was answered.

    Raises:
        ConfigError: nothing was.
        RunError, SidecarNotReady, RequestFailed: a server does not do it.
    """
    if found and not answer:
        raise ConfigError([Problem(WHERE, f"{neighbours.sentence(found)}: say what becomes of it")])
    if answer == STOP:
        neighbours.stop(found)
    elif answer == SLEEP:
        neighbours.send_to_sleep(found)


def _choices(found: Sequence[Neighbour]) -> list[tuple[str, str]]:
    can_sleep = bool(found) and all(each.can_sleep for each in found)
    return [(words, answer) for answer, words in ANSWERS.items() if answer != SLEEP or can_sleep]
