"""One export from the words of a command line to its report: the same steps for every kind."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from studio import settings
from studio.cli.follow import follow
from studio.config import load
from studio.config.command import SUBJECT
from studio.config.load import RunConfig
from studio.config.option import options, split_names
from studio.errors import ConfigError, Problem
from studio.exports import names
from studio.exports.plan import Plan
from studio.runs import launchers
from studio.runs.store import Store

C = TypeVar("C", bound=RunConfig)
WIDTH, INDENT = 100, " " * 6


@dataclass(frozen=True)
class Command(Generic[C]):
    """`words` is what is typed behind `python -m studio`; `plan` says what will be done, or refuses it."""

    words: str
    kind: type[C]
    plan: Callable[[Store, C], Plan]
    purpose: str
    subject: str


def carry_out(command: Command[C], words: Sequence[str]) -> int:
    """Plan the export, start it, follow it, print its report; the exit code."""
    arguments = _parser(command).parse_intermixed_args(words)
    values = read(command.kind, arguments.words)
    store = Store(settings.from_environment().saves_dir)
    config = names.settled(load.parse(command.kind, _found(store, values)))
    if arguments.dry_run:
        print(load.dump(config), end="")
        return 0
    tell(command.plan(store, config))
    run = launchers.begin(store, config)
    if arguments.detach:
        print(run.id)
        return 0
    code = follow(run)
    if (report := run.path / "report.md").exists():
        print(report.read_text(encoding="utf-8"), end="")
    return code


def read(kind: type[C], words: Sequence[str]) -> dict[str, Any]:
    """The keys and values that words stand for: a YAML file, what the command is about, key=value.

    Raises:
        ConfigError: a file that cannot be read, or a word too many.
    """
    said = [word for word in words if _is_option(word)]
    subjects = [word for word in words if not _is_option(word)]
    values = load.read_yaml(Path(subjects.pop(0))) if subjects and subjects[0].endswith((".yaml", ".yml")) else {}
    values.pop("schema_version", None)
    values |= _named(kind, subjects) | load.overrides(said)
    for key in load.without_effect(values, kind):
        print(f"left out: {key}", file=sys.stderr)
    return values


def tell(plan: Plan) -> None:
    """What will be done, and what to think about first."""
    print("\n".join([plan.title, *plan.lines]).replace("**", ""), file=sys.stderr)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _found(store: Store, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with adapters that are named as LLaMA-Factory's training left them."""
    named = split_names(values.get("adapter_name_or_path") or [])
    found = {name: path for name in named if (path := names.trained_here(store, str(name)))}
    for name, path in found.items():
        print(f"note: {name} is taken to be {path}", file=sys.stderr)
    return {**values, "adapter_name_or_path": [found.get(name, name) for name in named]} if found else values


def _is_option(word: str) -> bool:
    """A folder's name may hold a =."""
    key, equals, _ = word.partition("=")
    return bool(equals) and key.removeprefix("--").isidentifier() and not Path(word).exists()


def _named(kind: type[C], subjects: list[str]) -> dict[str, Any]:
    """What is said without a key; where an option takes several, it takes all that is left."""
    keys = SUBJECT[kind.model_fields["kind"].default]
    *first, last = keys
    values: dict[str, Any] = dict(zip(first, subjects, strict=False))
    left = subjects[len(first) :]
    takes_several = next(option.kind for option in options(kind) if option.key == last) == "list"
    if len(left) > 1 and not takes_several:
        what = f"is one word too many; options are written key=value, and {' '.join(keys)} come without a key"
        raise ConfigError([Problem(left[1], what)])
    return values | ({last: left if takes_several else left[0]} if left else {})


def _parser(command: Command[C]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        f"python -m studio {command.words}",
        description=f"{command.purpose} Exit code: 0 completed, 10 stopped, 1 failed, 2 asked wrongly.",
        epilog=_listed(command.kind),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar=f"{command.subject} | FILE.yaml | key=value", help="what, and how")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    parser.add_argument("--detach", action="store_true", help="print the run's id and return at once")
    return parser


def _listed(kind: type[C]) -> str:
    """Every option with what it is by default and what it does."""
    groups: dict[str, list[str]] = {}
    for each in options(kind):
        choices = "|".join(map(str, each.choices))
        default = "" if each.default in (None, "", ()) else f" [{_spelled(each.default)}]"
        what = textwrap.wrap(each.en, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
        groups.setdefault(each.group, []).extend([f"  {each.key}={choices}{default}", *what])
    return "\n".join(line for group, lines in groups.items() for line in (f"\n{group} options:", *lines))


def _spelled(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
