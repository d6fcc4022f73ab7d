"""The ledger: what is voted is in the file, and stays readable whatever happens to it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from studio.arena.votes import OUTCOMES, Ledger
from studio.errors import VoteError
from tests.arena.conftest import vote


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "votes.jsonl")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_vote_is_read_as_it_was_given(ledger, outcome):
    given = vote(1, outcome, system="Be brief.", category="maths", judge="j", tools="[]")
    ledger.append(given)
    assert ledger.read() == [given]


def test_winner_and_loser():
    assert vote(1, "left").winner.pick == "a"
    assert vote(1, "left").loser.pick == "b"
    assert vote(1, "right").winner.pick == "b"
    assert vote(1, "tie").winner is None
    assert vote(1, "both_bad").loser is None


def test_no_file_is_no_votes(ledger):
    assert ledger.read() == []


def test_a_later_vote_takes_the_place_of_an_earlier_one_and_comes_last(ledger):
    for given in (vote(1, "left"), vote(2, "tie"), vote(1, "right")):
        ledger.append(given)
    assert [(each.id, each.outcome) for each in ledger.read()] == [("2", "tie"), ("1", "right")]


def test_a_vote_that_was_taken_back_is_gone_until_there_is_another(ledger):
    ledger.append(vote(1, "left"))
    ledger.withdraw("1")
    assert ledger.read() == []
    ledger.append(vote(1, "tie"))
    assert [each.outcome for each in ledger.read()] == ["tie"]


@pytest.mark.parametrize(
    "line",
    ["", "no json", "[]", "{}", '{"id": "2"}', '{"id": "2", "left": 1, "right": 2, "messages": []}', '{"id": "2", "le'],
)
def test_a_line_that_is_no_vote_is_passed_over(ledger, line):
    ledger.append(vote(1, "left"))
    with open(ledger.path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    ledger.append(vote(3, "right"))
    assert [each.id for each in ledger.read()] == ["1", "3"]


def test_a_vote_after_a_torn_line_is_not_lost(ledger):
    ledger.append(vote(1, "left"))
    ledger.path.write_bytes(ledger.path.read_bytes() + b'{"id":"2","outcome":"le')
    ledger.append(vote(3, "right"))
    assert [each.id for each in ledger.read()] == ["1", "3"]


def test_an_outcome_that_is_not_known_is_no_vote(ledger):
    ledger.append(vote(1, "left"))
    ledger.path.write_text(ledger.path.read_text().replace('"outcome":"left"', '"outcome":"middle"'))
    assert ledger.read() == []


def test_pages_that_vote_at_the_same_time_lose_nothing(ledger):
    def vote_often(page: int) -> None:
        for number in range(50):
            ledger.append(vote(page * 100 + number, "left"))

    pages = [threading.Thread(target=vote_often, args=(page,)) for page in range(4)]
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    assert len(ledger.read()) == 200
    assert all(json.loads(line) for line in ledger.path.read_text().splitlines())


def test_a_full_disk_is_told_and_leaves_no_half_vote(small_disk):
    ledger = Ledger(small_disk / "votes.jsonl")
    ledger.append(vote(1, "left"))
    (small_disk / "ballast").write_bytes(b"x" * 240_000)
    with pytest.raises(VoteError, match="the disk is full"):
        _fill(ledger)
    assert ledger.path.read_bytes().endswith(b"\n")


def _fill(ledger: Ledger) -> None:
    for number in range(2, 2000):
        ledger.append(vote(number, "left"))
