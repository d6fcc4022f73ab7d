"""python -m studio data [ACTION] ...: list, import, look at, check, measure, change and download datasets."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence

from studio import settings
from studio.cli.data import checks, derive, rows, sets
from studio.cli.data.action import Action
from studio.config.data import DataConfig
from studio.config.option import options, split_names
from studio.datasets.registry import Registry

ACTIONS: dict[str, Action] = {**sets.ACTIONS, **rows.ACTIONS, **checks.ACTIONS, **derive.ACTIONS}

KEYS = frozenset(option.key for option in options(DataConfig))


def main(words: Sequence[str]) -> int:
    """List all datasets, or do one thing with one of them."""
    arguments = parser().parse_args([*flags(words)] or ["list"])
    code: int = arguments.run(Registry(settings.from_environment().data_dir), arguments)
    return code


def flags(words: Iterable[str]) -> Iterator[str]:
    """`words` with key=value, as the other commands write options, turned into flags: fraction=0.9, --fraction 0.9."""
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            yield word
        elif key in ("dataset", "repairs"):
            yield from split_names(value)
        elif value in ("true", "false"):
            yield from [f"--{key}"] if value == "true" else []
        else:
            yield f"--{key}={value}"


def parser() -> argparse.ArgumentParser:
    """Every action with its flags."""
    made = argparse.ArgumentParser(
        "python -m studio data",
        description="List all datasets, or do one thing with one. Exit code: 0 done, 1 failed or fatal findings, "
        "2 asked wrongly, 130 interrupted.",
    )
    actions = made.add_subparsers(metavar="ACTION")
    for name, action in ACTIONS.items():
        purpose = (action.run.__doc__ or "").partition("\n")[0]
        added = actions.add_parser(
            name,
            help=purpose,
            description=purpose,
            epilog=f"example: python -m studio data {action.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.flags(added)
        added.add_argument("--json", action="store_true", help="for programs")
        added.set_defaults(run=action.run)
    return made
