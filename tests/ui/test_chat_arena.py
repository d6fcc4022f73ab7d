"""Handlers of the Arena page, called the way the page calls them, on arenas whose contestants answer by rules."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from studio.arena.battles import Answer, Arena
from studio.arena.prompts import prompts
from studio.arena.votes import Ledger, Side, Vote
from studio.config.arena import ArenaConfig
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs.run import Run
from studio.serving.remotes import Remote, Remotes
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs.chat import arena, arena_battle, arena_data, arena_needs
from studio.ui.tabs.chat.arena_results import NO_VOTES
from studio.ui.tabs.train import GROUPS
from tests.arena.conftest import vote

NAMES = ("willow", "<b>oak<b>")
PICKS = [f"url:{name}" for name in NAMES]
PROMPTS = "one\n[b] <i>two</i>\nthree"


@pytest.fixture
def ctx(ctx: Context) -> Context:
    """A studio that knows two servers elsewhere, one with a name that is none of HTML's business."""
    ctx.store.saves.mkdir()
    for name in NAMES:
        Remotes(ctx.store.saves).add(Remote(name, "http://127.0.0.1:9", "model"))
    return ctx


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        offered = {"contestants": [], "judge": [], "dataset": []}
        return draw(ArenaConfig, offered, ("arena", "sampling"), prefix="arena")


@pytest.fixture(scope="module")
def training() -> Form:
    with gr.Blocks():
        return draw(TrainConfig, {}, GROUPS)


@pytest.fixture
def played(ctx: Context) -> Run:
    """An arena that has ended, as its worker leaves it."""
    config = parse(ArenaConfig, {"contestants": PICKS, "prompts": PROMPTS})
    run = ctx.store.create(config)
    arena = Arena.of(run)
    arena.draw(prompts(config, ctx.registry))
    for prompt in arena.prompts:
        for pick, text in zip(PICKS, ("", "Yes."), strict=True):
            arena.add(Answer(prompt.number, pick, text))
    write_json(run.path / "exit.json", {"code": 0, "reason": "completed"})
    return run


def shown(updates: list[Any]) -> dict[str, Any]:
    names = ("battle", "head", "sides", "left", "right", "row", "last", "undo")
    return dict(zip(names, updates, strict=True))


def test_where_there_is_no_arena_a_new_one_is_set_up(ctx, form):
    source, setup, picks, *_ = arena.on_open(ctx, form, None, [])
    assert (source["choices"], source["value"], source["visible"]) == ([], None, False)
    assert "value" not in picks, "there is no adapter that could meet its base"
    assert "url:" not in [pick for _, pick in picks["choices"]]
    assert setup["open"]
    assert arena_battle.NOTHING_CHOSEN in arena_battle.on_show(ctx, None)


def test_the_newest_arena_is_chosen_unless_another_is(ctx, form, played):
    source, *_ = arena.on_open(ctx, form, None, [])
    assert source["value"] == played.id
    assert "willow" in source["choices"][0][0]
    Ledger(ctx.store.saves / "votes.jsonl").append(vote(1, "left"))
    source, *_ = arena.on_open(ctx, form, "compare", [])
    assert source["value"] == "compare"


def test_an_arena_is_started_and_shown(ctx, form):
    given = {"contestants": PICKS, "prompts": PROMPTS}
    source, setup = arena.on_start(ctx, form, *form.write(given))
    run = ctx.store.get(source["value"])
    assert run.config.contestants == tuple(PICKS)
    assert not setup["open"]
    told = arena.on_look(ctx, run.id, "")
    assert (told["active"], told["battles"]) == (True, 0)
    run.stop_now()


def test_what_is_wrong_with_the_form_is_told(ctx, form):
    with pytest.raises(gr.Error, match="choose 2 to 4"):
        arena.on_start(ctx, form, *form.write({"contestants": [], "prompts": "hi"}))
    assert ctx.store.list() == []


def test_nothing_names_anybody_before_the_vote(ctx, played):
    told = str(arena_battle.on_show(ctx, played.id))
    assert "one" in told
    assert "willow" not in told
    assert "oak" not in told


def test_a_vote_is_in_the_file_and_then_names_are_told(ctx, played):
    first = shown(arena_battle.on_show(ctx, played.id))
    after = shown(arena_battle.on_vote(ctx, "left", played.id, first["battle"]))
    (written,) = Arena.of(played).ledger.read()
    assert (written.id, written.outcome, written.blind) == (first["battle"], "left", True)
    assert "A is better" in after["last"]
    assert "willow" in after["last"]
    assert "<b>oak" not in after["last"]
    assert after["battle"] != first["battle"]
    assert "Battle 2 of 3 · b" in after["head"]
    assert "&lt;i&gt;two" in after["head"]


def test_a_vote_that_cannot_be_written_is_told_and_the_page_stays(ctx, played):
    first = shown(arena_battle.on_show(ctx, played.id))
    (played.path / "votes.jsonl").mkdir()
    with pytest.raises(gr.Error, match=r"The vote could not be written to .*: Is a directory"):
        arena_battle.on_vote(ctx, "left", played.id, first["battle"])


def test_the_last_vote_is_undone_and_its_battle_shown_again(ctx, played):
    first = shown(arena_battle.on_show(ctx, played.id))
    second = shown(arena_battle.on_vote(ctx, "tie", played.id, first["battle"]))
    arena_battle.on_vote(ctx, "right", played.id, second["battle"])
    again = shown(arena_battle.on_undo(ctx, played.id))
    assert again["battle"] == second["battle"]
    assert [vote.id for vote in Arena.of(played).ledger.read()] == [first["battle"]]
    assert shown(arena_battle.on_undo(ctx, played.id))["undo"]["visible"] is False
    assert shown(arena_battle.on_undo(ctx, played.id))["battle"] == first["battle"], "nothing is left to undo"


def test_what_was_skipped_comes_again_after_the_others(ctx, played):
    seen = [shown(arena_battle.on_show(ctx, played.id))["battle"]]
    for _ in range(3):
        seen.append(shown(arena_battle.on_skip(ctx, played.id, seen[-1]))["battle"])
    assert len(set(seen)) == 3
    assert seen[3] == seen[0]


def test_all_voted(ctx, played):
    for battle in Arena.of(played).battles:
        last = shown(arena_battle.on_vote(ctx, "tie", played.id, battle.id))
    assert "All 3 battles have your vote." in last["head"]
    assert last["battle"] == ""
    assert last["row"]["visible"] is False
    assert last["undo"]["visible"] is True


def test_progress_is_told_once(ctx, played):
    told = arena.on_look(ctx, played.id, "")
    assert (told["active"], told["battles"], told["can_go_on"]) == (False, 3, False)
    assert arena.on_look(ctx, played.id, told["stamp"]) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", arena_battle.EMPTY_ANSWER),
        ("**bold**", "**bold**"),
        ("<think>hm</think>yes", "<details><summary>Thoughts</summary>\n\nhm\n\n</details>\n\nyes"),
        ("hm</think>", f"<details><summary>Thoughts</summary>\n\nhm\n\n</details>\n\n{arena_battle.EMPTY_ANSWER}"),
    ],
)
def test_thoughts_are_folded(text, shown):
    assert arena_battle._readable(text) == shown


def test_standings(ctx, played):
    assert arena.on_count(ctx, played.id, "")["html"] == NO_VOTES
    for battle, outcome in zip(Arena.of(played).battles, ("left", "tie", "both_bad"), strict=True):
        arena_battle.on_vote(ctx, outcome, played.id, battle.id)
    told = arena.on_count(ctx, played.id, "")["html"]
    assert "1 tie," in told
    assert "1 both bad" in told
    assert "without category" in told
    assert "<b>oak" not in told
    assert told.count('role="img"') == 2, "of the category that is undecided there is no rate"


def test_votes_of_compare_are_counted_and_become_data(ctx, training):
    sides = Side("base", "seedling", "no"), Side("willow", "url:willow", "yes")
    given = Vote("1", "compare", ({"role": "user", "content": "p"},), *sides, "left", False, 1.0)
    Ledger(ctx.store.saves / "votes.jsonl").append(given)
    assert "<h4>base" in arena.on_count(ctx, "compare", "")["html"]
    told, train, prepared = arena_data.on_make(ctx, "compare", "preference", "people", " my votes ")
    assert "<b>my votes</b>: 1 row." in told
    assert train["visible"]
    assert prepared["stage"] == "dpo"
    assert prepared["dataset"] == ["my votes"]
    assert prepared["model_name_or_path"] == "seedling"
    _, told, *_, tabs = arena_data.on_train(training, prepared)
    assert "my votes" in told
    assert tabs.selected == "train"


def test_training_starts_from_who_won_most(ctx, training):
    def settings(*outcomes: str) -> dict[str, Any]:
        ledger = Ledger(ctx.store.saves / "votes.jsonl")
        for number, outcome in enumerate(outcomes):
            ledger.append(vote(number, outcome, left="seedling", right="url:willow"))
        return arena_data.on_make(ctx, "compare", "answers", "people", "made")[2]

    assert settings("left", "left", "right")["model_name_or_path"] == "seedling"
    found = settings("right", "right", "right")
    assert "url" not in str(found), "a server elsewhere cannot be trained"
    assert found["stage"] == "sft"
    assert "seedling" in arena_data.on_train(training, found)[1]


def test_without_a_decided_vote_there_is_no_dataset(ctx, played):
    with pytest.raises(gr.Error, match="No vote says which answer is better"):
        arena_data.on_make(ctx, played.id, "preference", "people", "votes")
    with pytest.raises(gr.Error, match="Choose an arena first"):
        arena_data.on_make(ctx, None, "preference", "people", "votes")
    assert "votes" not in ctx.registry.names()


def test_what_contestants_need_is_told_before_anything_starts(ctx):
    told, restart = arena_needs.on_pick(ctx, ["seedling", PICKS[0]], None)
    assert "seedling" in told
    assert "willow" not in told, "a server elsewhere is there already"
    assert restart["visible"] is False
    assert arena_needs.on_pick(ctx, [], PICKS[0])[0] == ""
    assert ctx.store.list() == []
