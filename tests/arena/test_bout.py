"""Whole arenas on a server whose models answer by a rule each: real runs, real requests."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest

from studio.arena import opening
from studio.arena.ballots import ballot
from studio.arena.battles import Answer, Arena
from studio.arena.prompts import Prompt
from studio.arena.scores import standings
from studio.config.arena import ArenaConfig
from studio.config.load import parse
from studio.datasets.registry import Registry
from studio.errors import ConfigError, RunError
from studio.runs import launchers
from studio.runs.run import Run, State
from studio.serving.remotes import Remotes
from studio.settings import ROOT

DATA = Registry(ROOT / "data")


def ended(run: Run, within_s: float = 30) -> Run:
    deadline = time.monotonic() + within_s
    while run.is_active:
        assert time.monotonic() < deadline, run.status
        time.sleep(0.02)
    return run


def play(run: Run) -> Run:
    launchers.start(run)
    return ended(run)


def test_all_answer_all_and_the_judge_votes(store, open_arena):
    run, arena = open_arena("long", "short", judge="url:judge-longer")
    assert play(run).state is State.COMPLETED, run.reason
    assert run.result == {"prompts": 2, "answers": 4, "missing": 0, "alike": 0, "battles": 2, "verdicts": 2}
    assert arena.answers[0, "url:short"].text.strip() == "Yes."
    assert [battle.prompt.category for battle in arena.battles] == ["", "b"]
    (standing,) = standings(ballot(store, run.id))
    assert (standing.one, standing.other) == ("url:long", "url:short")
    assert (standing.judge.wins, standing.judge.losses, standing.people.votes) == (2, 0, 0)


def test_a_judge_that_follows_the_order_ties(store, open_arena):
    run, _ = open_arena("long", "short", judge="url:judge-first")
    play(run)
    assert standings(ballot(store, run.id))[0].judge.ties == 2


@pytest.mark.parametrize("name", ["mute", "broken"])
def test_a_judgement_that_fails_is_missing_and_no_loss(store, open_arena, name):
    run, arena = open_arena("long", "short", judge=f"url:judge-{name}")
    assert play(run).state is State.COMPLETED
    (standing,) = standings(ballot(store, run.id))
    assert (standing.judge.votes, standing.judge.missing) == (0, 2)
    assert all(verdict.why for verdict in arena.verdicts.values())
    assert run.result["verdicts"] == 0


def test_of_four_each_two_meet(open_arena):
    run, arena = open_arena("long", "short", "silent", "shy", prompts="one\ntwo\nthree")
    assert play(run).state is State.COMPLETED
    assert len(arena.battles) == 18
    meetings = Counter(frozenset((battle.left.contestant, battle.right.contestant)) for battle in arena.battles)
    assert set(meetings.values()) == {3}


def test_sides_are_drawn_by_the_seed(open_arena):
    sides = []
    for seed in (1, 1, 2):
        _, arena = open_arena("long", "short", seed=seed)
        answers = ((Answer(number, "url:long"), Answer(number, "url:short")) for number in range(200))
        battles = [arena.battle(Prompt(number, ()), *two) for number, two in enumerate(answers)]
        sides.append([battle.left.contestant for battle in battles])
    assert sides[0] == sides[1] != sides[2]
    assert 70 < sides[0].count("url:long") < 130  # of 200, with a standard deviation of 7


def test_an_answer_that_fails_is_missing_and_the_others_meet(open_arena):
    run, arena = open_arena("long", "short", "shy", prompts="one\nboom")
    assert play(run).state is State.COMPLETED
    assert (run.result["missing"], run.result["battles"]) == (1, 4)
    assert "boom" in arena.answers[1, "url:shy"].error


def test_answers_that_are_alike_are_no_battle(store, open_arena):
    Remotes(store.saves).add(replace(Remotes(store.saves).get("short"), name="curt"))
    run, _ = open_arena("short", "curt", "long", judge="url:judge-first")
    assert play(run).state is State.COMPLETED
    assert (run.result["alike"], run.result["battles"], run.result["verdicts"]) == (2, 4, 4)
    run, _ = open_arena("short", "curt")
    assert play(run).state is State.COMPLETED, "that nothing differs is a result"


def test_an_arena_without_a_battle_fails_with_the_reason(open_arena):
    run, _ = open_arena("long", "gone")
    assert play(run).state is State.FAILED
    assert "No prompt was answered by two contestants" in run.reason
    assert "127.0.0.1:9" in run.reason


def test_what_was_stopped_goes_on_where_it_was(store, open_arena):
    run, arena = open_arena("short", "slow", prompts="\n".join(map(str, range(20))), max_new_tokens=8)
    launchers.start(run)
    deadline = time.monotonic() + 20
    while not arena.battles:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    arena.ledger.append(arena.battles[0].vote("left", {"url:short": "s", "url:slow": "w"}))
    begun = time.monotonic()
    run.stop()
    assert ended(run).state is State.STOPPED
    assert time.monotonic() - begun < 2
    known = arena.answers
    new = opening.go_on(store, run)
    assert ended(new).state is State.COMPLETED, new.reason
    after = Arena.of(new)
    assert {key: after.answers[key] for key in known} == known
    assert len(after.battles) == 20
    assert after.prompts == arena.prompts
    assert after.ledger.read() == arena.ledger.read()
    lines = (new.path / "answers.jsonl").read_text().count("\n")
    assert lines == 40, "nothing was asked twice"


def test_only_an_ended_arena_is_gone_on_with(store, open_arena):
    run, _ = open_arena("short", "slow", prompts="\n".join(map(str, range(40))))
    launchers.start(run)
    with pytest.raises(RunError, match="running"):
        opening.go_on(store, run)
    run.stop_now()
    ended(run)


def test_all_that_is_wrong_is_told_before_anything_starts(store):
    picks = {"contestants": ["url:nobody", "/no/such/folder"], "judge": "url:none"}
    config = parse(ArenaConfig, {**picks, "dataset": "nothing"})
    with pytest.raises(ConfigError) as caught:
        opening.begin(store, DATA, config)
    assert [problem.where for problem in caught.value.problems] == ["contestants", "contestants", "judge", "dataset"]
    assert store.list() == []


def test_a_double_click_is_one_arena(store):
    config = parse(ArenaConfig, {"contestants": ["url:long", "url:short"], "prompts": "hi"})
    first, second = (opening.begin(store, DATA, config) for _ in range(2))
    assert first.id == second.id
    assert ended(first).state is State.COMPLETED
