"""All that was voted in one place: an arena, or the Compare page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from studio.arena.battles import VOTES, Arena, Battle
from studio.arena.contestants import names
from studio.arena.votes import Ledger, Vote
from studio.runs.store import Store

COMPARE = "compare"  # stands for the votes of the Compare page where an arena's run id is expected
Whose = Literal["people", "judge", "both"]


@dataclass(frozen=True)
class Ballot:
    """Votes of people and of a judge on `pairs` of picks, and what each pick is called. `failed` are battles of which
    the judge gave no verdict."""

    pairs: tuple[tuple[str, str], ...]
    names: Mapping[str, str]
    people: tuple[Vote, ...]
    judge: tuple[Vote, ...] = ()
    failed: tuple[Battle, ...] = ()

    @property
    def categories(self) -> list[str]:
        """What was voted on, by name; what has no category comes last, as an empty name."""
        named = {vote.category for vote in (*self.people, *self.judge)}
        return sorted(named, key=lambda name: (not name, name))

    def of(self, category: str) -> Ballot:
        """The part of it that is about one category."""
        people, judge = (
            tuple(vote for vote in votes if vote.category == category) for votes in (self.people, self.judge)
        )
        failed = tuple(battle for battle in self.failed if battle.prompt.category == category)
        return replace(self, people=people, judge=judge, failed=failed)

    def votes(self, whose: Whose) -> list[Vote]:
        """Votes to learn from. Of a battle that people and the judge voted on, `both` gives what people said."""
        theirs = {vote.id: vote for vote in self.people} if whose != "judge" else {}
        its = {vote.id: vote for vote in self.judge} if whose != "people" else {}
        return list({**its, **theirs}.values())


def ballot(store: Store, source: str) -> Ballot:
    """The votes of the arena with that run id, or of the Compare page where `source` is COMPARE.

    Raises:
        RunNotFound: there is no such run.
        RunError: it is no arena.
    """
    if source == COMPARE:
        return _compared(Ledger(store.saves / VOTES).read())
    arena = Arena.of(store.get(source))
    return _judged(arena, names(store, arena.config.contestants))


def _judged(arena: Arena, called: dict[str, str]) -> Ballot:
    battles = {battle.id: battle for battle in arena.battles}
    verdicts = [each for each in arena.verdicts.values() if each.id in battles]
    judge = str(arena.config.judge)
    judged = [battles[each.id].vote(each.outcome, called, judge=judge) for each in verdicts if each.outcome]
    failed = [battles[each.id] for each in verdicts if each.outcome is None]
    return Ballot(tuple(arena.pairs), called, tuple(arena.ledger.read()), tuple(judged), tuple(failed))


def _compared(votes: list[Vote]) -> Ballot:
    """Whatever two were compared, in the order in which they first were."""
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    called: dict[str, str] = {}
    for vote in votes:
        two = (vote.left.pick, vote.right.pick)
        pairs.setdefault(frozenset(two), two)
        called |= {side.pick: side.name for side in (vote.left, vote.right)}
    return Ballot(tuple(pairs.values()), called, tuple(votes))
