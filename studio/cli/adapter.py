"""python -m studio adapter extract|convert|scale|average [ADAPTER_OR_RUN ...] key=value ..."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from studio import settings
from studio.cli.follow import follow
from studio.cli.terminal import say
from studio.config import load
from studio.config.adapter import AdapterConfig
from studio.exports import adapter
from studio.runs import launchers
from studio.runs.store import Store

ACTIONS = {
    "extract": "the difference of tuned_model_name_or_path and its base, or the adapter in a checkpoint",
    "convert": "another type of weights: export_dtype=bfloat16",
    "scale": "a stronger or weaker change: scale=0.5",
    "average": "one adapter of several: adapter_weights=0.7,0.3 combination_type=svd lora_rank=16",
}


def main(words: Sequence[str]) -> int:
    """Say what will be done, start it, follow it, and print its report."""
    arguments = _parser().parse_intermixed_args(words)
    store = Store(settings.from_environment().saves_dir)
    config = load.parse(AdapterConfig, {"action": arguments.action, **_values(arguments.words)})
    if arguments.dry_run:
        print(load.dump(config), end="")
        return 0
    plan = adapter.plan(store, config)
    for line in (plan.title, *plan.lines, *(f"warning: {each}" for each in plan.warnings)):
        say(line)
    run = launchers.begin(store, config)
    code = follow(run)
    if (report := run.path / "report.md").exists():
        print(report.read_text(encoding="utf-8"), end="")
    return code


def _values(words: Sequence[str]) -> dict[str, Any]:
    """Words without a known key are adapters; a folder's name may hold a =."""
    named = [word for word in words if word.partition("=")[0].removeprefix("--") not in AdapterConfig.model_fields]
    given = {"adapter_name_or_path": named} if named else {}
    return {**given, **load.overrides(word for word in words if word not in named)}


def _parser() -> argparse.ArgumentParser:
    told = "; ".join(f"{action}: {what}" for action, what in ACTIONS.items())
    parser = argparse.ArgumentParser("python -m studio adapter", description=f"Make an adapter. {told}.")
    parser.add_argument("action", choices=list(ACTIONS), help="what to do")
    parser.add_argument("words", nargs="*", metavar="ADAPTER_OR_RUN | key=value", help="adapters; options")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and start nothing")
    return parser
