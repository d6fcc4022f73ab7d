"""The Arena page: set up who meets whom, vote blind, see who wins, and make data of the votes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio.arena import opening
from studio.arena.ballots import COMPARE, ballot
from studio.arena.battles import VOTES, Arena
from studio.arena.contestants import names
from studio.config import load
from studio.config.arena import ArenaConfig
from studio.runs.run import Run, State
from studio.runs.summary import of as summary_of
from studio.ui import cards, choices, panel
from studio.ui.choices import Choices
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form, draw
from studio.ui.panel import LATEST, QUIET, Answer
from studio.ui.tabs.chat import arena_battle, arena_data, arena_needs, pickers
from studio.ui.tabs.chat.arena_data import on_train
from studio.ui.tabs.chat.arena_results import results_html
from studio.ui.text import said

__all__ = ["ArenaTab", "build", "on_train"]

FIRST = ("contestants", "prompts", "dataset", "num_prompts", "judge")
PROMPTS = "Who are you?\n[maths] What is 7 times 8?"
ENDED_EARLY = frozenset({State.STOPPED, State.FAILED, State.LOST})


@dataclass(frozen=True)
class ArenaTab:
    """What the Train tab listens to: `prepared` holds the settings that `train` takes there."""

    train: gr.Button
    prepared: gr.State


def build(ctx: Context, tab: gr.Tab) -> ArenaTab:
    """Draw the page and wire it; `tab` is the page's own."""
    source = gr.Dropdown(
        [],
        label=said("Arena, newest first", "竞技场（最新在前）"),
        elem_id="arena-source",
        interactive=True,
        visible=False,
    )
    with gr.Accordion(said("New arena", "新建竞技场"), open=False, elem_id="arena-new") as setup:
        form = draw(ArenaConfig, _offers(ctx), ("arena", "sampling"), prefix="arena", first=FIRST)
        form.component("prompts").placeholder = PROMPTS
        arena_needs.draw(ctx, form)
        start = gr.Button(said("Start", "开始"), variant="primary", elem_id="arena-start")
    progress = _progress(ctx, source)
    booth = arena_battle.draw(ctx, source)
    with gr.Column(visible=False) as counted:
        gr.Markdown(said("### Results", "### 结果"))
        _results(ctx, source)
        gr.Markdown(said("### Votes as data", "### 投票转为数据"))
        harvest = arena_data.draw(ctx, source)

    picked = [form.component(key) for key in _offers(ctx)]
    tab.select(partial(on_open, ctx, form), [source, picked[0]], [source, setup, *picked], **QUIET)
    source.change(lambda chosen: gr.update(visible=bool(chosen)), source, counted, **QUIET)
    # through the queue: what is wrong with the form must be told
    start.click(
        partial(on_start, ctx, form), list(form.components), [source, setup], show_progress="hidden",
        api_name="start_arena",
    )  # fmt: skip
    # the first battle, while none is shown; and an arena that goes on is another run
    progress.select(partial(arena_battle.on_show, ctx), source, booth.shown, **LATEST)
    progress.end(partial(on_gone_on, ctx), None, source, **QUIET)
    return ArenaTab(harvest.train, harvest.prepared)


def on_open(ctx: Context, form: Form, source: str | None, contestants: list[str]) -> list[Any]:
    """Offer what exists now: the arena that is chosen, or the newest. Where there is none, a new one can be set up,
    for the newest adapter and its base at first."""
    known = [value for _, value in _sources(ctx)]
    chosen = source if source in known else next(iter(known), None)
    picks, *others = form.offers(_offers(ctx))
    base, newest = pickers.pair(ctx, None, None, True)
    if not contestants and newest != base:
        picks["value"] = [base, newest]
    return [_chosen(ctx, chosen), gr.update(open=True) if not known else gr.skip(), picks, *others]


@shown
def on_start(ctx: Context, form: Form, *values: Any) -> tuple[Any, Any]:
    """Create the arena, start it and show it."""
    given = form.read(values) | {"dataset_dir": str(ctx.registry.data_dir)}
    run = opening.begin(ctx.store, ctx.registry, load.parse(ArenaConfig, given))
    return _chosen(ctx, run.id), gr.update(open=False)


def on_gone_on(ctx: Context) -> Any:
    """Show the arena that was started last."""
    return _chosen(ctx, _sources(ctx)[0][1])


def on_look(ctx: Context, source: str, known: str) -> Answer:
    """How far an arena is, as HTML, how many battles there are, and what can be done with it; None where the page
    knows."""
    run = None if source == COMPARE else ctx.store.get(source)
    if run is None:
        return panel.unless_known(known, {"html": "", "active": False, "battles": 0, "can_go_on": False})
    arena = Arena.of(run)
    return panel.unless_known(
        known,
        {
            "html": _told(run, arena),
            "active": run.is_active,
            "battles": len(arena.battles),
            "can_go_on": run.state in ENDED_EARLY or bool(run.result.get("missing")),
        },
    )


def on_go_on(ctx: Context, source: str) -> Answer:
    """Ask what is missing, in a new run with all that is there."""
    return {"run": opening.go_on(ctx.store, ctx.store.get(source)).id}


def on_count(ctx: Context, source: str, known: str) -> Answer:
    """The standings as HTML; None where the page knows them."""
    return panel.unless_known(known, {"html": results_html(ballot(ctx.store, source))})


def _progress(ctx: Context, source: gr.Dropdown) -> gr.HTML:
    """How far the arena is. `select` fires when there are new battles and none is shown, `end` when it goes on as
    another run."""

    def look(asked: list[str]) -> Answer:
        return on_look(ctx, *asked)

    def stop(run_id: str) -> None:
        ctx.store.get(run_id).stop()

    def go_on(run_id: str) -> Answer:
        return on_go_on(ctx, run_id)

    return _followed("arena_progress", [look, stop, go_on], source)


def _results(ctx: Context, source: gr.Dropdown) -> gr.HTML:
    def look(asked: list[str]) -> Answer:
        return on_count(ctx, *asked)

    return _followed("arena_results", [look], source)


def _followed(name: str, functions: list[Any], source: gr.Dropdown) -> gr.HTML:
    """A panel about what is chosen in `source`."""
    drawn = panel.draw(name, functions)
    source.change(lambda chosen: chosen or "", source, drawn, **QUIET)
    return drawn


def _told(run: Run, arena: Arena) -> str:
    summary = summary_of(run)
    missing = [answer for answer in arena.answers.values() if answer.error]
    alike = sum(battle.is_alike for battle in arena.meetings)
    parts = [cards.head(summary), cards.bar(summary), cards.failure(run, summary)]
    if missing:
        count = f"{len(missing)} answer{'s are' if len(missing) > 1 else ' is'} missing"
        parts.append(f'<div class="card wait"><p>{count}: {escape(missing[0].error)}</p></div>')
    if alike:
        count = "Two answers were" if alike == 1 else f"{alike} pairs of answers were"
        parts.append(f'<p class="standing-legend">{count} the same: there is nothing to vote on.</p>')
    return "".join(parts)


def _chosen(ctx: Context, source: str | None) -> Any:
    """The picker of arenas, once there is one."""
    return gr.update(choices=_sources(ctx), value=source, visible=source is not None)


def _sources(ctx: Context) -> Choices:
    """(label, value) of every arena, newest first, and of the votes of the Compare page if there are any."""
    arenas = [(_label(ctx, run), run.id) for run in ctx.store.list("arena")]
    has_votes = (ctx.store.saves / VOTES).exists()
    return [*arenas, *([("Votes of the Compare page", COMPARE)] if has_votes else [])]


def _label(ctx: Context, run: Run) -> str:
    met = " · ".join(names(ctx.store, Arena.of(run).config.contestants).values())
    return f"{run.name} · {met} · {run.created:%d %b, %H:%M:%S}"


def _offers(ctx: Context) -> dict[str, Any]:
    """What the form offers beside free text."""
    picks = [(label, pick) for label, pick in pickers.offers(ctx) if pick != pickers.ADD]
    return {"contestants": picks, "judge": picks, "dataset": choices.datasets(ctx)}
