"""What an action of `python -m studio data` is made of: its function, its flags, an example."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from studio.cli.terminal import CLEAR_LINE, duration
from studio.config import load
from studio.config.data import DataConfig
from studio.config.option import Option, options
from studio.datasets.pace import Progress
from studio.datasets.registry import Registry

TOLD_S = 5.0
OPTIONS = {option.key: option for option in options(DataConfig)}
# the same option under the name that a person would type first
SHORT = {"model_name_or_path": "model"}


class Action(NamedTuple):
    """`run` returns the exit code; the first line of its docstring is its help."""

    run: Callable[[Registry, argparse.Namespace], int]
    flags: Callable[[argparse.ArgumentParser], None]
    example: str


def whole(smallest: int) -> Callable[[str], int]:
    """The type of a flag for a whole number that is not smaller."""

    def number(text: str) -> int:
        value = int(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"must be {smallest} or more, got {text}")
        return value

    return number


def share(text: str) -> float:
    """The type of a flag for a share of a whole."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text}")
    return value


def name_flag(parser: argparse.ArgumentParser) -> None:
    """The name of a set."""
    parser.add_argument("name", metavar="NAME", help="a dataset of the list")


def config_flags(parser: argparse.ArgumentParser, *keys: str) -> None:
    """A flag for each of these options of a data run, with - or _ in its name."""
    for key in keys:
        option = OPTIONS[key]
        names = dict.fromkeys((f"--{SHORT.get(key, key).replace('_', '-')}", f"--{key.replace('_', '-')}", f"--{key}"))
        is_switch = option.kind == "bool" and not option.nullable
        kind: dict[str, Any] = {"action": "store_true"} if is_switch else {"metavar": _metavar(option)}
        parser.add_argument(*names, dest=key, default=argparse.SUPPRESS, help=_help(option), **kind)


def config(arguments: argparse.Namespace, action: str, registry: Registry, **values: Any) -> DataConfig:
    """The configuration that the flags given ask for.

    Raises:
        ConfigError: with every problem at once.
    """
    given = {key: value for key, value in vars(arguments).items() if key in OPTIONS}
    words = load.overrides(f"{key}={value}" for key, value in given.items() if isinstance(value, str))
    folder = str(registry.data_dir)
    return load.parse(DataConfig, {**given, **words, "action": action, "dataset_dir": folder, **values})


@contextmanager
def meter(what: str) -> Iterator[Progress]:
    """A line on stderr that tells how far `what` is: in place on a terminal, now and then elsewhere."""
    lively, started = sys.stderr.isatty(), time.monotonic()
    told = started if not lively else 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if lively or now - told > TOLD_S:
            told = now
            end = {"end": ""} if lively else {}
            print(_line(what, done, total, now - started, lively), file=sys.stderr, flush=True, **end)

    try:
        yield progress
    finally:
        if lively:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """`value` for programs."""
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _line(what: str, done: int, total: int, elapsed_s: float, lively: bool) -> str:
    share = done / total if total else 0.0
    left = f", {duration(elapsed_s / share - elapsed_s)} left" if share and elapsed_s > TOLD_S else ""
    return f"{CLEAR_LINE if lively else ''}{what}: {share:.0%}{left}"


def _metavar(option: Option) -> str:
    choices = ("true", "false") if option.kind == "bool" else option.choices
    return "|".join(map(str, choices)) if choices else option.kind.upper()


def _help(option: Option) -> str:
    default = "" if option.default in (None, (), False) else f" ({option.default})"
    return (option.en + default).replace("%", "%%")
