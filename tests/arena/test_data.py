"""Votes become registered datasets that a training can use, and what gives no row is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.arena.data import STAGES, register, rows
from studio.arena.votes import Side, Vote
from studio.datasets.formats import Conversation, Message, Preference
from studio.datasets.loading import load
from studio.datasets.purposes import misfit
from studio.datasets.registry import Registry
from studio.errors import DatasetError
from tests.arena.conftest import vote

USES = pytest.mark.parametrize("use", ["preference", "answers"])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "data")


def said(left: str, right: str, number: int = 1) -> Vote:
    turns = ({"role": "user", "content": "p"},)
    return Vote(str(number), "compare", turns, Side("a", "a", left), Side("b", "b", right), "left", False, 1.0)


def test_the_winner_is_chosen_and_the_loser_rejected(registry):
    votes = [vote(1, "left", system="Be brief."), vote(2, "right"), vote(3, "tie"), vote(4, "both_bad"), vote(5, "tie")]
    entry, found = register(registry, votes, "preference", "my votes", "arena-1")
    assert str(found) == "2 rows; left out: ties 2, both bad 1"
    assert registry.entry("my votes").ranking
    assert entry.origin["of"] == ["arena-1"]
    assert [row for _, row in load(registry, "my votes")] == [
        Preference(
            (Message("system", "Be brief."), Message("user", "prompt 1")),
            chosen=Message("assistant", "answer of a to 1"),
            rejected=Message("assistant", "answer of b to 1"),
        ),
        Preference(
            (Message("user", "prompt 2"),),
            chosen=Message("assistant", "answer of b to 2"),
            rejected=Message("assistant", "answer of a to 2"),
        ),
    ]


def test_good_answers_are_conversations(registry):
    register(registry, [vote(1, "right"), vote(2, "tie")], "answers", "good", "compare")
    ((_, row),) = load(registry, "good")
    assert row == Conversation((Message("user", "prompt 1"), Message("assistant", "answer of b to 1")))


@USES
def test_what_is_made_serves_the_stage_it_is_for(registry, use):
    register(registry, [vote(1, "left")], use, "made", "x")
    ((_, row),) = load(registry, "made")
    assert misfit(STAGES[use], type(row)) == ""


def test_several_turns_and_tools_are_kept(registry):
    turns = ({"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"})
    tools = '[{"type": "function", "function": {"name": "now", "parameters": {}}}]'
    given = Vote("1", "compare", turns, Side("a", "a", "good"), Side("b", "b", "bad"), "left", False, 1.0, tools=tools)
    register(registry, [given], "preference", "made", "compare")
    ((_, row),) = load(registry, "made")
    assert isinstance(row, Preference)
    assert [message.content for message in row.prompt] == ["1", "2", "3"]
    assert row.tools


@USES
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_winner_teaches_nothing(use, text):
    assert rows([said(text, "x")], use).left_out == {"empty answers": 1}


def test_an_empty_loser_teaches_nothing_of_pairs_alone():
    assert rows([said("x", "")], "preference").rows == ()
    assert len(rows([said("x", "")], "answers").rows) == 1


def test_the_same_answer_twice_and_the_same_row_twice_are_left_out():
    found = rows([said("x", "x"), said("x", "y", 2), said("x", "y", 3)], "preference")
    assert len(found.rows) == 1
    assert found.left_out == {"the same answer twice": 1, "said before": 1}


@USES
@pytest.mark.parametrize("votes", [[], [vote(1, "tie"), vote(2, "both_bad")]], ids=["none", "undecided"])
def test_votes_that_decide_nothing_make_no_dataset(registry, use, votes):
    with pytest.raises(DatasetError, match="No vote says which answer is better"):
        register(registry, votes, use, "made", "x")
    assert registry.names() == []


def test_a_name_that_is_taken_gets_a_number(registry):
    names = [register(registry, [vote(1, "left")], "preference", "made", "x")[0].name for _ in range(2)]
    assert names == ["made", "made-2"]
