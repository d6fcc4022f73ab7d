"""python -m studio arena A B key=value ... | vote RUN | results RUN | go-on RUN | data RUN NAME"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from studio import settings
from studio.arena import data, opening
from studio.arena.ballots import COMPARE, Ballot, Whose, ballot
from studio.arena.battles import Arena, Battle
from studio.arena.contestants import names
from studio.arena.data import Use
from studio.arena.scores import Tally, agreement, standings
from studio.arena.votes import OUTCOMES, Outcome
from studio.cli.follow import follow
from studio.cli.terminal import say
from studio.config import load
from studio.config.arena import ArenaConfig
from studio.datasets.registry import Registry
from studio.runs.run import Run
from studio.runs.store import Store

KEYS: dict[str, Outcome] = dict(zip("1234", OUTCOMES, strict=True))
ASKED = "1 A is better, 2 B is better, 3 tie, 4 both bad; s skip, q quit: "


def main(words: Sequence[str]) -> int:
    """Start an arena and follow it, or do something with one."""
    verb = VERBS.get(words[0]) if words else None
    if verb:
        return verb(words[1:])
    arguments = _starting().parse_intermixed_args(words)
    chosen = settings.from_environment()
    config = _read(arguments.words, chosen.data_dir)
    if arguments.dry_run:
        print(load.dump(config), end="")
        return 0
    return _followed(opening.begin(Store(chosen.saves_dir), Registry(chosen.data_dir), config))


def vote(words: Sequence[str]) -> int:
    """Show battles without names and take votes from the terminal, until there are no more or `q` is typed."""
    store = _store()
    arena = Arena.of(store.get(_of_run("vote", "Vote on the answers of an arena, without names.", words).run))
    called, voted = names(store, arena.config.contestants), {vote.id for vote in arena.ledger.read()}
    left = [battle for battle in arena.battles if battle.id not in voted]
    for number, battle in enumerate(left, 1):
        print(f"\n{number} of {len(left)}\n{_battle(battle)}\n")
        key = _key()
        if key == "q":
            break
        if outcome := KEYS.get(key):
            arena.ledger.append(battle.vote(outcome, called))
            say(f"A was {called[battle.left.contestant]}, B was {called[battle.right.contestant]}")
    return 0


def results(words: Sequence[str]) -> int:
    """Print who wins how often."""
    about = f"Print the standings of an arena, or of {COMPARE}: the votes of the Compare page."
    found = ballot(_store(), _of_run("results", about, words).run)
    for line in _standings(found):
        print(line)
    both = agreement(found)
    if both.both:
        print(f"The judge and people say the same of {both.same} of {both.both} battles.")
    return 0


def go_on(words: Sequence[str]) -> int:
    """Ask what is missing in an arena that has ended, in a new run."""
    store = _store()
    arguments = _of_run("go-on", "Ask what is missing in an arena that was stopped or has failed.", words)
    return _followed(opening.go_on(store, store.get(arguments.run)))


def make(words: Sequence[str]) -> int:
    """Register a dataset of votes."""
    parser = _parser("data", f"Make a dataset of the votes of an arena, or of {COMPARE}.")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("name", metavar="NAME", help="what the dataset is called")
    parser.add_argument("--use", choices=get_args(Use), default="preference", help="pairs, or the better answers alone")
    parser.add_argument("--of", choices=get_args(Whose), default="people", help="whose votes")
    arguments = parser.parse_args(words)
    votes = ballot(_store(), arguments.run).votes(arguments.of)
    registry = Registry(settings.from_environment().data_dir)
    entry, found = data.register(registry, votes, arguments.use, arguments.name, arguments.run)
    print(f"{entry.name}: {found}")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"vote": vote, "results": results, "go-on": go_on, "data": make}


def _standings(found: Ballot) -> Iterator[str]:
    named = [name for name in found.categories if name]
    for part, label in [(found, "all"), *((found.of(name), name) for name in named)]:
        for each in standings(part):
            pair = f"{found.names.get(each.one, each.one)} against {found.names.get(each.other, each.other)}"
            for who, tally in (("people", each.people), ("judge", each.judge)):
                if tally.votes or tally.missing:
                    yield f"{pair} · {label} · {who}: {_figures(tally)}"


def _figures(tally: Tally) -> str:
    low, high = tally.interval
    rate = "undecided" if tally.rate is None else f"{tally.rate:.0%} won (95 %: {low:.0%} to {high:.0%})"
    counts = {"won": tally.wins, "lost": tally.losses, "ties": tally.ties, "both bad": tally.both_bad}
    told = ", ".join(
        f"{count} {name}" for name, count in {**counts, "without a verdict": tally.missing}.items() if count
    )
    return f"{rate}: {told}; p = {tally.p_value:.2g}"


def _battle(battle: Battle) -> str:
    turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in battle.prompt.request)
    return f"{turns}\n\n--- A ---\n{battle.left.text}\n\n--- B ---\n{battle.right.text}"


def _key() -> str:
    try:
        while (key := input(ASKED).strip().lower()) not in (*KEYS, "s", "q"):
            pass
    except EOFError:  # the input is a file that has ended, or Ctrl-D
        return "q"
    return key


def _followed(run: Run) -> int:
    code = follow(run)
    if code == 0:
        say(f"Vote without names: python -m studio arena vote {run.id}, or in the page under Chat, Arena")
    return code


def _read(words: Sequence[str], data_dir: Path) -> ArenaConfig:
    """Words without a = are contestants; a folder's name may hold one."""
    picks = [word for word in words if "=" not in word or Path(word).exists()]
    options = [word for word in words if word not in picks]
    values: dict[str, Any] = {"contestants": picks} if picks else {}
    return load.parse(ArenaConfig, {"dataset_dir": str(data_dir), **values, **load.overrides(options)})


def _store() -> Store:
    return Store(settings.from_environment().saves_dir)


def _of_run(verb: str, about: str, words: Sequence[str]) -> argparse.Namespace:
    parser = _parser(verb, about)
    parser.add_argument("run", metavar="RUN", help="the arena's run id, or its beginning")
    return parser.parse_args(words)


def _parser(verb: str, about: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(f"python -m studio arena {verb}".strip(), description=about)


def _starting() -> argparse.ArgumentParser:
    about = f"Have models answer the same prompts, to be judged without names. Further: {', '.join(VERBS)}."
    parser = _parser("", about)
    parser.add_argument("words", nargs="*", metavar="MODEL | key=value", help="two to four contestants; options")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    return parser
