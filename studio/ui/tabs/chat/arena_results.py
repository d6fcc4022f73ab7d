"""What votes say, as HTML: who wins how often, within which bounds, by category. Everything is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from studio.arena.ballots import Ballot
from studio.arena.scores import Agreement, Standing, Tally, agreement, standings

NO_VOTES = '<p class="empty">No votes yet. Wins, their 95 % intervals and a sign test appear here with the first.</p>'
SURE = 0.05
LEGEND = (
    "Share of the decided votes that the first one won. The bar is Wilson's 95 % interval; p is the two-sided sign "
    "test's: how often chance alone would be as clear. Ties decide nothing."
)


def results_html(ballot: Ballot) -> str:
    """The standings of a ballot, each pair under its own heading."""
    sections = [_section(ballot, standing) for standing in standings(ballot) if _has_any(standing)]
    if not sections:
        return NO_VOTES
    return f'{"".join(sections)}{_agreement(agreement(ballot))}<p class="standing-legend">{LEGEND}</p>'


def _section(ballot: Ballot, standing: Standing) -> str:
    one, other = (escape(ballot.names.get(pick, pick)) for pick in (standing.one, standing.other))
    rows = [*_rows("All prompts", standing), *_by_category(ballot, standing)]
    return f'<section class="standing"><h4>{one} <small>against</small> {other}</h4>{"".join(rows)}</section>'


def _by_category(ballot: Ballot, whole: Standing) -> Iterator[str]:
    """A line for each category, where there is more than one."""
    if ballot.categories in ([], [""]):
        return
    for category in ballot.categories:
        for standing in standings(ballot.of(category)):
            if (standing.one, standing.other) == (whole.one, whole.other):
                yield from _rows(escape(category) or "without category", standing)


def _rows(label: str, standing: Standing) -> Iterator[str]:
    for who, tally in (("people", standing.people), ("judge", standing.judge)):
        if tally.votes or tally.missing:
            yield _row(f"{label} <small>{who}</small>", tally)


def _row(label: str, tally: Tally) -> str:
    return (
        f'<div class="standing-row"><span>{label}</span>{_interval(tally)}'
        f'<span class="standing-figures">{", ".join(_figures(tally))}</span></div>'
    )


def _interval(tally: Tally) -> str:
    """A line from 0 to 100 %, with the interval as a bar and the rate as a mark."""
    if tally.rate is None:
        return '<div class="interval"></div>'
    (low, high), rate = tally.interval, tally.rate
    told = f"{rate:.0%} won, 95 % interval {low:.0%} to {high:.0%}"
    return (
        f'<div class="interval" role="img" aria-label="{told}" title="{told}">'
        f'<i style="left:{low:.1%};width:{high - low:.1%}"></i><b style="left:{rate:.1%}"></b></div>'
    )


def _figures(tally: Tally) -> Iterator[str]:
    if tally.rate is not None:
        low, high = tally.interval
        yield f"<b>{tally.rate:.0%}</b> ({low:.0%}–{high:.0%})"
        yield f"{tally.wins} won, {tally.losses} lost"
    if tally.ties:
        yield f"{tally.ties} tie{'s' * (tally.ties > 1)}"
    if tally.both_bad:
        yield f"{tally.both_bad} both bad"
    if tally.missing:
        yield f"{tally.missing} without a verdict"
    if tally.decided:
        yield f"p = {tally.p_value:.2g}{'' if tally.p_value < SURE else ' (may be chance)'}"


def _agreement(found: Agreement) -> str:
    if not found.both:
        return ""
    said = f"<b>{found.same} of {found.both}</b> battles ({found.same / found.both:.0%})"
    return f'<p class="standing-legend">The judge and people say the same of {said}.</p>'


def _has_any(standing: Standing) -> bool:
    return any(tally.votes or tally.missing for tally in (standing.people, standing.judge))
