"""python -m studio bench serve MODEL key=value ..."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from studio import settings
from studio.cli.follow import follow
from studio.config import load
from studio.config.bench import BenchConfig
from studio.runs import launchers
from studio.runs.store import Store


def main(words: Sequence[str]) -> int:
    """Create a benchmark, start it, follow it, and print its report."""
    arguments = _parser().parse_intermixed_args(words)
    store = Store(settings.from_environment().saves_dir)
    config = load.parse(BenchConfig, _values(arguments.words))
    if arguments.dry_run:
        print(load.dump(config), end="")
        return 0
    run = launchers.begin(store, config)
    code = follow(run)
    if (report := run.path / "report.md").exists():
        print(report.read_text(encoding="utf-8"), end="")
    return code


def _values(words: Sequence[str]) -> dict[str, Any]:
    """The first word may be the model; a folder's name may hold a =."""
    if words and words[0].partition("=")[0] not in BenchConfig.model_fields:
        return {"model_name_or_path": words[0], **load.overrides(words[1:])}
    return load.overrides(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m studio bench", description="Measure how fast a model answers, served in several ways."
    )
    parser.add_argument("what", choices=["serve"], help="what is measured")
    parser.add_argument("words", nargs="*", metavar="MODEL | key=value", help="seedling, a folder or a hub id; options")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    return parser
