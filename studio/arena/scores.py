"""What votes say: how often one wins against another, and how sure that is.

Ties decide nothing, so rates, intervals and tests are of the decided votes alone; ties and votes for neither are
counted beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from studio.arena.ballots import Ballot
from studio.arena.battles import Battle
from studio.arena.votes import Vote

Z95 = 1.959963984540054  # of the normal distribution, two-sided 95 %


@dataclass(frozen=True)
class Tally:
    """Votes on one against another, seen from the one. `missing` are judgements that were tried and failed."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0
    missing: int = 0

    @property
    def decided(self) -> int:
        """Votes that one of them won."""
        return self.wins + self.losses

    @property
    def votes(self) -> int:
        """All votes."""
        return self.decided + self.ties + self.both_bad

    @property
    def rate(self) -> float | None:
        """Share of the decided votes that were won."""
        return self.wins / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true rate is, with 95 % confidence."""
        return wilson(self.wins, self.decided)

    @property
    def p_value(self) -> float:
        """How likely as clear a result is where neither is better."""
        return sign_test(self.wins, self.losses)


@dataclass(frozen=True)
class Standing:
    """One against another, by their picks: what people voted, and what the judge did."""

    one: str
    other: str
    people: Tally
    judge: Tally


@dataclass(frozen=True)
class Agreement:
    """How many of `both` battles, which the judge and people voted on, they said the same of. A vote for neither is
    taken for a tie, as a judge has no other word for it."""

    same: int
    both: int


def standings(ballot: Ballot) -> list[Standing]:
    """Each pair of a ballot."""
    return [
        Standing(one, other, _tally(ballot.people, one, other), _tally(ballot.judge, one, other, ballot.failed))
        for one, other in ballot.pairs
    ]


def agreement(ballot: Ballot) -> Agreement:
    """Of the battles that both people and the judge voted on."""
    judged = {vote.id: vote for vote in ballot.judge}
    both = [(vote, judged[vote.id]) for vote in ballot.people if vote.id in judged]
    return Agreement(sum(_plain(mine) == _plain(its) for mine, its in both), len(both))


def wilson(wins: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share, 0..1; the whole of it where there are no trials.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if trials == 0:
        return 0.0, 1.0
    share, square = wins / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    spread = z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of the sign test: that a fair coin falls as unevenly as that, or more."""
    trials = wins + losses
    ways = tail = 1
    for count in range(min(wins, losses)):
        ways = ways * (trials - count) // (count + 1)
        tail += ways
    return float(min(1.0, 2 * tail / 2**trials))


def _tally(votes: Iterable[Vote], one: str, other: str, failed: Iterable[Battle] = ()) -> Tally:
    """The votes on two picks, whichever side each was on; all others are passed over."""
    two = {one, other}
    results = [_result(vote, one) for vote in votes if {vote.left.pick, vote.right.pick} == two]
    missing = sum({battle.left.contestant, battle.right.contestant} == two for battle in failed)
    wins, losses, ties, both_bad = (results.count(name) for name in ("win", "loss", "tie", "both_bad"))
    return Tally(wins, losses, ties, both_bad, missing)


def _result(vote: Vote, one: str) -> str:
    if winner := vote.winner:
        return "win" if winner.pick == one else "loss"
    return vote.outcome


def _plain(vote: Vote) -> str:
    return vote.winner.pick if vote.winner else "tie"
