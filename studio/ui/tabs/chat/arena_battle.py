"""The booth of the Arena page: two answers without names, a vote, and then the names.

What is shown follows from the files alone: the next battle is one without a vote, the vote to undo is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from studio.arena.ballots import COMPARE
from studio.arena.battles import Arena, Battle
from studio.arena.contestants import names
from studio.arena.votes import Outcome, Vote
from studio.settings import ASSETS
from studio.ui.context import Context
from studio.ui.doors import shown
from studio.ui.text import said

EMPTY_ANSWER = "*(an empty answer)*"
LATEX = [
    {"left": left, "right": right, "display": display}
    for left, right, display in (("$$", "$$", True), (r"\[", r"\]", True), (r"\(", r"\)", False))
]
NOTHING_CHOSEN = '<p class="empty">Start an arena above: two to four models answer the same prompts, and \
you vote on each two answers without knowing whose they are.</p>'
NO_BATTLE = '<p class="empty">The first two answers to a prompt will appear here.</p>'
NOTHING_DIFFERS = '<p class="empty">There is nothing to vote on: no two different answers came in.</p>'
OF_COMPARE = '<p class="empty">Votes of the Compare page are given there; here they are counted and become data.</p>'
OUTCOMES: dict[Outcome, tuple[str, str]] = {
    "left": ("A is better", "A 更好"),
    "right": ("B is better", "B 更好"),
    "tie": ("Tie", "平局"),
    "both_bad": ("Both are bad", "都不好"),
}
# what was voted is counted at once
COUNT = "() => document.getElementById('arena-results')?.dispatchEvent(new Event('seedbed:look'))"
DECIDED = {"left": "A is better", "right": "B is better", "tie": "a tie", "both_bad": "both are bad"}


@dataclass(frozen=True)
class Booth:
    """What is drawn. `battle` holds the id of the battle that is shown, or nothing."""

    battle: gr.State
    head: gr.HTML
    sides: gr.Row
    left: gr.Markdown
    right: gr.Markdown
    row: gr.Row
    last: gr.HTML
    undo: gr.Button

    @property
    def shown(self) -> list[Any]:
        """What every handler here updates."""
        return [self.battle, self.head, self.sides, self.left, self.right, self.row, self.last, self.undo]


def draw(ctx: Context, source: gr.Dropdown) -> Booth:
    """Draw the booth for the arena that is chosen in `source`, and wire it."""
    battle, head = gr.State(""), gr.HTML(NOTHING_CHOSEN, elem_id="arena-head")
    with gr.Row(visible=False, elem_id="arena-sides", equal_height=True) as sides:
        left, right = (_side(letter, name) for letter, name in (("A", "left"), ("B", "right")))
    with gr.Row(visible=False, elem_id="arena-ballot", elem_classes="actions") as row:
        votes = {outcome: _button(*words, f"arena-vote-{outcome}") for outcome, words in OUTCOMES.items()}
        skip = _button("Skip", "跳过", "arena-skip", "secondary")
        _keys()
    with gr.Row(elem_classes="actions", elem_id="arena-last-row"):
        last = gr.HTML("", elem_id="arena-last")
        undo = _button("Undo", "撤销", "arena-undo", "secondary", visible=False)
    booth = Booth(battle, head, sides, left, right, row, last, undo)
    # through the queue: a vote that could not be written must be told
    told: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for outcome, button in votes.items():
        button.click(partial(on_vote, ctx, outcome), [source, battle], booth.shown, **told).then(None, js=COUNT)
    skip.click(partial(on_skip, ctx), [source, battle], booth.shown, **told)
    undo.click(partial(on_undo, ctx), source, booth.shown, **told).then(None, js=COUNT)
    source.change(partial(on_show, ctx), source, booth.shown, **told)
    return booth


@shown
def on_show(ctx: Context, source: str | None) -> list[Any]:
    """The first battle that nobody voted on."""
    if not source or source == COMPARE:
        return _bare(OF_COMPARE if source else NOTHING_CHOSEN)
    return _view(ctx, _arena(ctx, source))


@shown
def on_vote(ctx: Context, outcome: Outcome, source: str, battle_id: str) -> list[Any]:
    """Write the vote down, then show whose answers they were, and the next battle."""
    arena = _arena(ctx, source)
    found = next((battle for battle in arena.battles if battle.id == battle_id), None)
    if found is None:
        return _view(ctx, arena)
    arena.ledger.append(found.vote(outcome, names(ctx.store, arena.config.contestants)))
    return _view(ctx, arena, after=battle_id)


@shown
def on_skip(ctx: Context, source: str, battle_id: str) -> list[Any]:
    """The next battle; this one comes again after the others."""
    return _view(ctx, _arena(ctx, source), after=battle_id)


@shown
def on_undo(ctx: Context, source: str) -> list[Any]:
    """Take the last vote back and show its battle again."""
    arena = _arena(ctx, source)
    votes = arena.ledger.read()
    if not votes:
        return _view(ctx, arena)
    arena.ledger.withdraw(votes[-1].id)
    return _view(ctx, arena, battle_id=votes[-1].id)


def _arena(ctx: Context, source: str) -> Arena:
    return Arena.of(ctx.store.get(source))


def _view(ctx: Context, arena: Arena, battle_id: str = "", after: str = "") -> list[Any]:
    """Updates of `Booth.shown`: the battle of that id, or the next one `after` that without a vote."""
    meetings, votes = arena.meetings, arena.ledger.read()
    battles = [battle for battle in meetings if not battle.is_alike]
    voted = {vote.id for vote in votes}
    found = _next([battle for battle in battles if battle.id not in voted or battle.id == battle_id], battle_id, after)
    last, undo = _last(votes), gr.update(visible=bool(votes))
    is_active = ctx.store.get(arena.folder.name).is_active
    if found is None:
        return [*_bare(_done(len(battles), is_active))[:-2], last, undo]
    # while answers come in, those that are still to come count too
    coming = len(arena.prompts) * len(arena.pairs) - len(meetings) if is_active else 0
    head = _head(found, len(voted) + 1, len(battles) + coming)
    row, texts = gr.update(visible=True), [_readable(side.text) for side in (found.left, found.right)]
    return [found.id, head, row, *texts, row, last, undo]


def _next(battles: Sequence[Battle], battle_id: str, after: str) -> Battle | None:
    """Of the battles that may be shown: the one asked for, else the first one after another, else the first."""
    asked = next((battle for battle in battles if battle.id == battle_id), None)
    later = [battle for battle in battles if _place(battle.id) > _place(after)] if after else []
    return asked or next(iter([*later, *battles]), None)


def _place(battle_id: str) -> list[int]:
    """Battles in their order: by prompt, then by who meets."""
    return [int(number) for number in battle_id.split("-")]


def _bare(told: str) -> list[Any]:
    hidden = gr.update(visible=False)
    return ["", told, hidden, "", "", hidden, "", hidden]


def _done(battles: int, is_active: bool) -> str:
    if not battles:
        return NO_BATTLE if is_active else NOTHING_DIFFERS
    more = " More are on their way." if is_active else ""
    return f'<div class="card good"><p>All {battles:,} battles have your vote.{more}</p></div>'


def _head(battle: Battle, number: int, battles: int) -> str:
    """How far the voting is, and what was asked."""
    category = f" · {escape(battle.prompt.category)}" if battle.prompt.category else ""
    turns = "".join(
        f'<div class="turn {turn["role"]}"><b>{turn["role"]}</b>{escape(turn["content"])}</div>'
        for turn in battle.prompt.request
    )
    return f'<div class="arena-count">Battle {min(number, battles):,} of {battles:,}{category}</div>{turns}'


def _last(votes: Sequence[Vote]) -> str:
    """Whose answers were voted on last: nobody could know before."""
    if not votes:
        return ""
    vote = votes[-1]
    sides = f"A was <b>{escape(vote.left.name)}</b>, B was <b>{escape(vote.right.name)}</b>"
    return f'<span class="arena-last">Your last vote: {DECIDED[vote.outcome]}. {sides}.</span>'


def _readable(text: str) -> str:
    """An answer as Markdown, with its thoughts folded."""
    thoughts, closed, answer = text.rpartition("</think>")
    if not closed:
        return text if text.strip() else EMPTY_ANSWER
    folded = thoughts.replace("<think>", "").strip()
    return f"<details><summary>Thoughts</summary>\n\n{folded}\n\n</details>\n\n{answer.strip() or EMPTY_ANSWER}"


def _side(letter: str, name: str) -> gr.Markdown:
    with gr.Column(min_width=280, elem_classes="arena-side"):
        gr.HTML(f"<h4>Answer {letter}</h4>")
        return gr.Markdown(elem_id=f"arena-{name}", latex_delimiters=LATEX, min_height=80)


def _button(english: str, chinese: str, elem_id: str, variant: str = "primary", visible: bool = True) -> gr.Button:
    return gr.Button(
        said(english, chinese), elem_id=elem_id, variant=variant, size="sm", min_width=110, visible=visible
    )


def _keys() -> None:
    """Votes by keyboard: 1 to 4, S and U press the buttons while they are in sight."""
    script = (ASSETS / "web" / "arena_keys.js").read_text(encoding="utf-8")
    gr.HTML('<span class="arena-keys">Keys 1–4 vote, S skips, U undoes.</span>', js_on_load=script)
