"""Figures checked against published or independently computed ones."""

from __future__ import annotations

import math

import pytest

from studio.arena.ballots import Ballot
from studio.arena.scores import Tally, agreement, sign_test, standings, wilson
from tests.arena.conftest import vote

PAIRS = (("a", "b"),)
NAMES = {"a": "the a", "b": "the b"}


@pytest.mark.parametrize(
    ("wins", "trials", "low", "high"),
    [
        # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # R: prop.test(8, 10, correct = FALSE)$conf.int
        (8, 10, 0.4901625, 0.9433178),
        (10, 10, 0.7224672, 1.0),
    ],
)
def test_wilson(wins, trials, low, high):
    assert wilson(wins, trials) == pytest.approx((low, high), abs=6e-5)


def test_wilson_of_nothing_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("wins", range(21))
def test_wilson_holds_the_share_and_mirrors(wins):
    low, high = wilson(wins, 20)
    assert 0 <= low <= wins / 20 <= high + 1e-12 <= 1 + 1e-12
    assert wilson(20 - wins, 20) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        # both tails, counted by hand: of 10 tosses 2 * (1 + 10 + 45) of 1024, and so on
        (8, 2, 112 / 1024),
        (9, 1, 22 / 1024),
        (10, 0, 2 / 1024),
        (15, 5, 43_400 / 2**20),
        # R: binom.test(60, 100)$p.value
        (60, 40, 0.05688793),
        (5, 5, 1.0),
        (1, 0, 1.0),
        (0, 0, 1.0),
    ],
)
def test_sign_test(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p, abs=5e-9)
    assert sign_test(losses, wins) == sign_test(wins, losses)


def test_sign_test_of_many_votes_is_near_the_normal_one():
    # with the continuity correction
    z = (5100 - 5000 - 0.5) / math.sqrt(10_000 / 4)
    assert sign_test(4900, 5100) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_votes_are_counted_from_one_side_whichever_it_was_on():
    votes = (
        vote(1, "left"), vote(2, "right"), vote(3, "right", left="b", right="a"), vote(4, "tie"), vote(5, "both_bad"),
        vote(6, "left", left="a", right="c"),
    )  # fmt: skip
    (standing,) = standings(Ballot(PAIRS, NAMES, votes))
    assert standing.people == Tally(wins=2, losses=1, ties=1, both_bad=1)
    assert standing.people.decided == 3
    assert standing.people.votes == 5
    assert standing.people.rate == pytest.approx(2 / 3)
    assert standing.judge == Tally()
    assert standing.judge.rate is None


def test_categories_are_told_apart_and_the_nameless_one_comes_last():
    votes = (vote(1, "left"), vote(2, "right", category="maths"), vote(3, "left", category="art"))
    ballot = Ballot(PAIRS, NAMES, votes)
    assert ballot.categories == ["art", "maths", ""]
    assert standings(ballot.of("maths"))[0].people == Tally(losses=1)


def test_people_and_judge_agree_where_they_say_the_same():
    people = (vote(1, "left"), vote(2, "right"), vote(3, "both_bad"), vote(4, "left"), vote(5, "left"))
    judge = (vote(1, "left"), vote(2, "left"), vote(3, "tie"), vote(4, "right", left="b", right="a"))
    found = agreement(Ballot(PAIRS, NAMES, people, judge))
    assert (found.same, found.both) == (3, 4)


def test_of_a_battle_with_two_votes_that_of_people_is_learnt_from():
    ballot = Ballot(PAIRS, NAMES, (vote(1, "left"),), (vote(1, "right"), vote(2, "tie")))
    assert [(each.id, each.outcome) for each in ballot.votes("both")] == [("1", "left"), ("2", "tie")]
    assert [each.outcome for each in ballot.votes("judge")] == ["right", "tie"]
    assert [each.outcome for each in ballot.votes("people")] == ["left"]
