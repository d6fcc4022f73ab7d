"""New datasets made from old ones; what each takes is what the data runs of the page take."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from studio.cli.data.action import Action, config, config_flags, meter, name_flag, print_json
from studio.cli.terminal import say
from studio.datasets import actions, preview
from studio.datasets.checks import REPAIRS
from studio.datasets.registry import Registry


def split(registry: Registry, arguments: argparse.Namespace) -> int:
    """Divide a dataset: a random fraction and the rest, or one part for each value of a column."""
    return _derive(registry, arguments, "split")


def merge(registry: Registry, arguments: argparse.Namespace) -> int:
    """Put several datasets one behind the other."""
    return _derive(registry, arguments, "merge", *arguments.names)


def shuffle(registry: Registry, arguments: argparse.Namespace) -> int:
    """All rows in an order drawn by chance."""
    return _derive(registry, arguments, "shuffle")


def sample(registry: Registry, arguments: argparse.Namespace) -> int:
    """Some rows drawn by chance."""
    return _derive(registry, arguments, "sample")


def deduplicate(registry: Registry, arguments: argparse.Namespace) -> int:
    """Leave out rows that repeat an earlier one."""
    return _derive(registry, arguments, "deduplicate")


def convert(registry: Registry, arguments: argparse.Namespace) -> int:
    """Write the rows in another shape, or in another kind of file."""
    return _derive(registry, arguments, "convert")


def repair(registry: Registry, arguments: argparse.Namespace) -> int:
    """Mend what a check found, in a new dataset."""
    return _derive(registry, arguments, "repair", repairs=arguments.repairs)


def duplicate(registry: Registry, arguments: argparse.Namespace) -> int:
    """Copy a dataset with its file."""
    return _derive(registry, arguments, "duplicate")


def _derive(registry: Registry, arguments: argparse.Namespace, action: str, *names: str, **values: object) -> int:
    asked = config(arguments, action, registry, dataset=list(names) or [arguments.name], **values)
    with meter(action) as progress:
        figures = actions.perform(asked, registry, progress)
    if arguments.json:
        print_json(figures)
        return 0
    for name in figures["datasets"]:
        say(f"{name}: {preview.count(registry, name):,} rows in {registry.file(name)}")
    if figures.get("summary"):
        say(figures["summary"])
    return 0


def _flags(*keys: str) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        name_flag(parser)
        config_flags(parser, *keys, "output_name")

    return add


def _merge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="two or more datasets of the list")
    config_flags(parser, "output_name")


def _repair_flags(parser: argparse.ArgumentParser) -> None:
    _flags("near_duplicate_threshold")(parser)
    parser.add_argument("repairs", nargs="+", metavar="REPAIR", help=", ".join(REPAIRS))


ACTIONS = {
    "split": Action(split, _flags("fraction", "column", "seed"), "split alpaca_demo --fraction 0.9"),
    "merge": Action(merge, _merge_flags, "merge alpaca_demo sharegpt_demo --output-name both"),
    "shuffle": Action(shuffle, _flags("seed"), "shuffle alpaca_demo --seed 7"),
    "sample": Action(sample, _flags("rows", "fraction", "seed"), "sample alpaca_demo --rows 100"),
    "deduplicate": Action(deduplicate, _flags(), "deduplicate alpaca_demo"),
    "convert": Action(convert, _flags("shape", "file_format"), "convert alpaca_demo --shape openai"),
    "repair": Action(repair, _repair_flags, "repair alpaca_demo drop_faulty trim_answers"),
    "duplicate": Action(duplicate, _flags(), "duplicate alpaca_demo --output-name mine"),
}
