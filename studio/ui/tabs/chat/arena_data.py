"""Votes as a dataset from the Arena page, and the Train form filled to learn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio import models
from studio.arena import data
from studio.arena.ballots import Ballot, Whose, ballot
from studio.arena.data import STAGES, Use
from studio.arena.scores import standings
from studio.config import load
from studio.config.train import TrainConfig
from studio.errors import SeedbedError
from studio.serving import speaker
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.form import Form
from studio.ui.tabs.train import BLANK
from studio.ui.text import said

PRESETS = {"dpo": "dpo", "sft": "lora"}
USES: dict[Use, tuple[str, str]] = {
    "preference": ("Pairs: better and worse answer (DPO)", "偏好对：较好与较差的回答（DPO）"),
    "answers": ("The better answers alone (SFT)", "仅较好的回答（SFT）"),
}
WHOSE: dict[Whose, tuple[str, str]] = {
    "people": ("People's votes", "人的投票"),
    "judge": ("The judge's votes", "裁判的投票"),
    "both": ("Both", "两者"),
}


@dataclass(frozen=True)
class Harvest:
    """`prepared` holds the settings of a training on the set that was made last; `train` goes there."""

    train: gr.Button
    prepared: gr.State


def draw(ctx: Context, source: gr.Dropdown) -> Harvest:
    """Draw what makes datasets of the votes in `source`, and wire it."""
    prepared = gr.State({})
    with gr.Row(elem_classes="arena-data"):
        use = _choice(USES, "Make", "生成", "arena-use")
        whose = _choice(WHOSE, "Of", "来源", "arena-whose")
        name = gr.Textbox("votes", label=said("Name of the dataset", "数据集名称"), elem_id="arena-name", min_width=160)
        make = gr.Button(said("Make a dataset", "生成数据集"), elem_id="arena-make", size="sm", min_width=140)
    told = gr.HTML("", elem_id="arena-made", elem_classes="maybe")
    with gr.Row(elem_classes="actions"):
        train = gr.Button(
            said("Train on it", "用它训练"), variant="primary", size="sm", visible=False, elem_id="arena-train"
        )
    make.click(
        partial(on_make, ctx), [source, use, whose, name], [told, train, prepared], show_progress="hidden",
        api_name="votes_to_dataset",
    )  # fmt: skip
    source.change(lambda: ("", gr.update(visible=False), {}), None, [told, train, prepared], api_visibility="private")
    return Harvest(train, prepared)


@shown
def on_make(ctx: Context, source: str | None, use: Use, whose: Whose, name: str) -> tuple[str, Any, dict[str, Any]]:
    """Register the dataset; what it holds, and the settings of a training on it."""
    if not source:
        raise SeedbedError("Choose an arena first: its votes become the dataset")
    votes = ballot(ctx.store, source)
    entry, found = data.register(ctx.registry, votes.votes(whose), use, name.strip() or "votes", source)
    told = f'<div class="card good"><p>Dataset <b>{escape(entry.name)}</b>: {escape(str(found))}.</p></div>'
    return told, gr.update(visible=True), settings(ctx, votes, use, entry.name)


@shown
def on_train(form: Form, values: Mapping[str, Any]) -> list[Any]:
    """Fill the Train form with what was prepared, and go there."""
    learnt, start = escape(", ".join(values["dataset"])), escape(_names(values))
    told = f"<p>To learn from the votes in <b>{learnt}</b>, starting from <b>{start}</b>.</p>"
    return [BLANK, f'<div class="card">{told}</div>', *form.fill(values), gr.Tabs(selected="train")]


def settings(ctx: Context, votes: Ballot, use: Use, dataset: str) -> dict[str, Any]:
    """A training on the dataset: the shipped recipe of its stage, started from the contestant that won most."""
    stage = STAGES[use]
    recipe = {**load.preset(PRESETS[stage]), "stage": stage, "dataset": [dataset], "run_name": dataset}
    # the recipe's is for its own short rows
    return {**recipe, "cutoff_len": _default("cutoff_len"), **_start(ctx, _best(votes))}


def _best(votes: Ballot) -> str:
    """The pick that won most votes, people's before the judge's."""
    won: dict[str, tuple[int, int]] = {}
    for each in standings(votes):
        for pick, people, judge in (
            (each.one, each.people.wins, each.judge.wins),
            (each.other, each.people.losses, each.judge.losses),
        ):
            before = won.get(pick, (0, 0))
            won[pick] = (before[0] + people, before[1] + judge)
    return max(won, key=lambda pick: won[pick])


def _start(ctx: Context, pick: str) -> dict[str, Any]:
    """What to train: the picked model, or its base and the picked adapter. One that is elsewhere cannot be trained."""
    who = speaker.picked(ctx.store, pick)
    if who.remote:
        return {"model_name_or_path": _default("model_name_or_path")}
    adapter = {"adapter_name_or_path": [who.adapter]} if who.adapter else {}
    return {"model_name_or_path": models.display_name(who.base), **adapter}


def _names(values: Mapping[str, Any]) -> str:
    """What a training starts from, for people."""
    return " + ".join([str(values["model_name_or_path"]), *values.get("adapter_name_or_path", ())])


def _default(key: str) -> Any:
    return TrainConfig.model_fields[key].default


def _choice(words: Mapping[Any, tuple[str, str]], english: str, chinese: str, elem_id: str) -> gr.Dropdown:
    choices = [(said(*text), name) for name, text in words.items()]
    return gr.Dropdown(
        choices, value=choices[0][1], label=said(english, chinese), elem_id=elem_id, min_width=180, interactive=True
    )
