"""python -m studio data [add|preview|check|remove|restore] ..."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from studio import settings
from studio.cli.terminal import say, table, tick
from studio.datasets import preview
from studio.datasets.catalog import listings
from studio.datasets.checks import survey
from studio.datasets.registry import Registry
from studio.datasets.upload import accept

FATAL = 1


def main(words: Sequence[str]) -> int:
    """List all datasets, or do one thing with one of them."""
    arguments = _parser().parse_args(words)
    code: int = arguments.action(Registry(settings.from_environment().data_dir), arguments)
    return code


def list_all(registry: Registry, arguments: argparse.Namespace) -> int:
    """Every dataset of the registry."""
    rows = [
        [line.name, line.shape, line.formatting, "" if line.rows is None else f"{line.rows:,}", line.note]
        for line in listings(registry)
    ]
    table(["dataset", "shape", "format", "rows", ""], rows)
    return 0


def add(registry: Registry, arguments: argparse.Namespace) -> int:
    """Copy a file into the data folder, check every row, register it."""
    accepted = accept(arguments.file, arguments.name or arguments.file.name, registry.data_dir, progress=_checked)
    say(f"{accepted.entry.name}: {accepted.report.summary()}")
    say(f"Read as {accepted.entry.formatting}: {accepted.proposal.reason}")
    return 0


def show(registry: Registry, arguments: argparse.Namespace) -> int:
    """Print rows as the conversations that a training sees."""
    page = preview.page(registry, arguments.name, arguments.offset, arguments.rows)
    for row in page.rows:
        print(f"--- row {row.row}{f' ({row.label})' if row.label else ''}")
        if row.error:
            print(f"at fault: {row.error}\n{row.raw}")
        for turn in row.turns:
            print(f"{turn.role}: {turn.content}")
    print(f"--- {page.total} rows in all" if page.total is not None else "--- and more")
    return 0


def check(registry: Registry, arguments: argparse.Namespace) -> int:
    """Read every row; exit code 1 if the file cannot be used as it is."""
    report, _ = survey(registry.file(arguments.name), registry.entry(arguments.name), progress=_checked)
    say(report.summary())
    return FATAL if report.fatal else 0


def remove(registry: Registry, arguments: argparse.Namespace) -> int:
    """Move a dataset and its file to the trash."""
    kept = registry.remove(arguments.name)
    print(f"{arguments.name} is in the trash; to undo: python -m studio data restore {kept}")
    return 0


def restore(registry: Registry, arguments: argparse.Namespace) -> int:
    """Bring a dataset back from the trash."""
    print(registry.restore(arguments.name).name)
    return 0


def _checked(done: int, total: int) -> None:
    tick(f"{done / total:.0%} checked")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m studio data", description="List all datasets, or do one thing with one."
    )
    parser.set_defaults(action=list_all)
    actions = parser.add_subparsers(metavar="ACTION")
    for name, action in (("preview", show), ("check", check), ("remove", remove), ("restore", restore)):
        added = actions.add_parser(name, help=action.__doc__, description=action.__doc__)
        added.add_argument("name", metavar="TRASH_ID" if action is restore else "NAME")
        added.set_defaults(action=action)
        if action is show:
            added.add_argument("--rows", type=int, default=5, help="how many (5)")
            added.add_argument("--offset", type=int, default=0, help="after this many rows (0)")
    added = actions.add_parser("add", help=add.__doc__, description=add.__doc__)
    added.add_argument("file", type=Path, metavar="FILE", help="JSON, JSONL, CSV, Parquet, text ...")
    added.add_argument("--name", help="file name to store it under")
    added.set_defaults(action=add)
    return parser
