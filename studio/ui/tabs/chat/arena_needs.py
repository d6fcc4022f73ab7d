"""What has to be there before the chosen contestants can answer, told before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio.serving import servers, voices
from studio.serving.voices import Need
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form
from studio.ui.panel import QUIET
from studio.ui.text import said


@dataclass(frozen=True)
class Needs:
    """A line for each need, and the button that starts the servers again that must be."""

    told: gr.HTML
    restart: gr.Button


def draw(ctx: Context, form: Form) -> None:
    """Draw the needs of those who are chosen in an arena's `form`, and wire them."""
    needs = Needs(
        gr.HTML("", elem_id="arena-needs", elem_classes="maybe"),
        gr.Button(said("Start those servers again", "重启这些服务"), size="sm", visible=False, elem_id="arena-restart"),
    )
    picks = [form.component("contestants"), form.component("judge")]
    outputs = [needs.told, needs.restart]
    gr.on([pick.change for pick in picks], partial(on_pick, ctx), picks, outputs, **QUIET)
    # through the queue: what goes wrong must be told
    needs.restart.click(partial(on_restart, ctx), picks, outputs, api_visibility="private")


def on_pick(ctx: Context, contestants: list[str], judge: str | None) -> tuple[str, Any]:
    """What is needed, as HTML, and whether servers must be started again."""
    needs = _needs(ctx, contestants, judge)
    lines = "".join(f"<li>{escape(need.sentence)}</li>" for need in needs)
    return f'<ul class="arena-needs">{lines}</ul>' if lines else "", gr.update(visible=bool(_restarts(needs)))


@shown
def on_restart(ctx: Context, contestants: list[str], judge: str | None) -> tuple[str, Any]:
    """Start the servers again that do not take the contestants as they are."""
    for need in _restarts(_needs(ctx, contestants, judge)):
        servers.restart(ctx.store, ctx.store.get(need.run_id), **need.options)
    return on_pick(ctx, contestants, judge)


def _needs(ctx: Context, contestants: list[str], judge: str | None) -> list[Need]:
    return voices.needs(ctx.store, [*contestants, *([judge] if judge else [])])


def _restarts(needs: list[Need]) -> list[Need]:
    return [need for need in needs if need.kind == "restart"]
