"""python -m studio merge ADAPTER_OR_RUN key=value ..."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from studio import settings
from studio.cli.follow import follow
from studio.config import load
from studio.config.merge import MergeConfig
from studio.runs import launchers, outputs
from studio.runs.store import Store


def main(words: Sequence[str]) -> int:
    """Create a merge, start it, follow it."""
    arguments = _parser().parse_intermixed_args(words)
    store = Store(settings.from_environment().saves_dir)
    adapter = outputs.adapter_of(store, arguments.adapter)
    values = {"adapter_name_or_path": str(adapter.path), **load.overrides(arguments.options)}
    config = load.parse(MergeConfig, values)
    if arguments.dry_run:
        print(load.dump(config), end="")
        return 0
    run = launchers.begin(store, config)
    return follow(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m studio merge", description="Fold a LoRA adapter into its base model.")
    parser.add_argument("adapter", metavar="ADAPTER_OR_RUN", help="an adapter's folder, or the id of its run")
    parser.add_argument("options", nargs="*", metavar="key=value", help="export_dtype, export_size, ...")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    return parser
