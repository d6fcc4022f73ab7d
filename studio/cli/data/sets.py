"""The list of datasets: what is on it, what comes in, what goes out."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from studio.cli.data.action import Action, config, config_flags, meter, name_flag, print_json
from studio.cli.data.reading import mapping_flags, proposal
from studio.cli.terminal import say, table
from studio.datasets import actions, download, upload
from studio.datasets.catalog import listings
from studio.datasets.entry import HUB_NAMES, HUBS_READ
from studio.datasets.registry import Registry
from studio.datasets.writing import WRITERS
from studio.errors import DatasetError


def list_all(registry: Registry, arguments: argparse.Namespace) -> int:
    """Every dataset of the registry."""
    lines = listings(registry)
    if arguments.json:
        print_json([asdict(line) for line in lines])
        return 0
    rows = [
        [line.name, line.shape, line.formatting, "" if line.rows is None else f"{line.rows:,}", line.note]
        for line in lines
    ]
    table(["dataset", "shape", "format", "rows", ""], rows)
    return 0


def add(registry: Registry, arguments: argparse.Namespace) -> int:
    """Copy files into the data folder, check every row, register them."""
    if arguments.name and len(arguments.files) > 1:
        raise DatasetError("--name names one file: add the others in commands of their own")
    failed = 0
    made = []
    for file in arguments.files:
        try:
            made.append(_added(registry, arguments, file))
        except DatasetError as error:
            failed += 1
            told = f"not added: {error}" if file.name in str(error) else f"{file.name} was not added: {error}"
            print(told, file=sys.stderr)
    if arguments.json:
        print_json(made)
    return 1 if failed else 0


def import_(registry: Registry, arguments: argparse.Namespace) -> int:
    """Bring in a dataset from a hub, or a file or folder of this machine."""
    asked = config(arguments, "import", registry, **_source(registry, arguments))
    with meter("import") as progress:
        figures = actions.perform(asked, registry, progress)
    if arguments.json:
        print_json(figures)
        return 0
    say(f"{', '.join(figures['datasets'])}: {figures.get('summary') or 'imported'}")
    return 0


def export(registry: Registry, arguments: argparse.Namespace) -> int:
    """Write a dataset to a file, as jsonl, json, csv or parquet."""
    kind = arguments.to.suffix.removeprefix(".").lower()
    if kind not in WRITERS:
        raise DatasetError(f"{arguments.to.name}: name it after the kind that you want: {', '.join(WRITERS)}")
    with meter("download") as progress:
        download.write(registry, arguments.name, kind, arguments.to, progress=progress)
    say(f"{arguments.to}: {arguments.to.stat().st_size:,} bytes")
    return 0


def remove(registry: Registry, arguments: argparse.Namespace) -> int:
    """Move a dataset and its file to the trash."""
    kept = registry.remove(arguments.name)
    say(f"{arguments.name} is in the trash; to undo: python -m studio data restore {kept}")
    return 0


def restore(registry: Registry, arguments: argparse.Namespace) -> int:
    """Bring a dataset back from the trash."""
    say(registry.restore(arguments.id).name)
    return 0


def trash(registry: Registry, arguments: argparse.Namespace) -> int:
    """What can be restored, latest first."""
    kept = registry.trashed()
    if arguments.json:
        print_json([asdict(item) for item in kept])
        return 0
    rows = [
        [item.id, item.name, time.strftime("%Y-%m-%d %H:%M", time.localtime(item.removed_at)), f"{item.bytes:,}"]
        for item in kept
    ]
    table(["trash id", "dataset", "removed", "bytes"], rows)
    return 0


def _added(registry: Registry, arguments: argparse.Namespace, file: Path) -> dict[str, object]:
    with meter(file.name) as progress:
        name = arguments.name or file.name
        accepted = upload.accept(file, name, registry.data_dir, proposal(arguments), progress=progress)
    if not arguments.json:
        say(f"{accepted.entry.name}: {accepted.report.summary()}")
        say(f"Read as {accepted.entry.formatting}: {accepted.proposal.reason}")
    return {"name": accepted.entry.name, "reason": accepted.proposal.reason, **accepted.report.to_json()}


def _source(registry: Registry, arguments: argparse.Namespace) -> dict[str, object]:
    """What is imported, in the words of a data run."""
    for hub in HUBS_READ:
        if hub_id := getattr(arguments, hub):
            return {"hub": hub, "hub_id": hub_id}
    name = arguments.source
    if name in registry.names() and (entry := registry.entry(name)).remote:
        return {"dataset": [name], "hub": entry.hub, "hub_id": entry.hub_id}
    return {"path": str(Path(name).expanduser())}


def _list_flags(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="JSON, JSONL, CSV, Parquet, text ...")
    parser.add_argument("--name", help="file name to store it under")
    mapping_flags(parser)


def _import_flags(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "source", nargs="?", metavar="PATH | NAME", help="a file or folder, or a dataset of the list that is on a hub"
    )
    for hub in HUBS_READ:
        source.add_argument(f"--{hub}", metavar="ID", help=f"a dataset on {HUB_NAMES[hub]}, as owner/name")
    config_flags(parser, "subset", "split", "output_name")


def _export_flags(parser: argparse.ArgumentParser) -> None:
    name_flag(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="its ending says the kind")


def _restore_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="TRASH_ID", help="an id that `trash` lists")


ACTIONS = {
    "list": Action(list_all, _list_flags, "list --json"),
    "add": Action(add, _add_flags, "add questions.csv answers.jsonl"),
    "import": Action(import_, _import_flags, "import --hf tatsu-lab/alpaca --split train"),
    "download": Action(export, _export_flags, "download alpaca_demo --to alpaca.parquet"),
    "remove": Action(remove, name_flag, "remove alpaca_demo"),
    "restore": Action(restore, _restore_flags, "restore 20260102-030405-abcdef"),
    "trash": Action(trash, _list_flags, "trash"),
}
