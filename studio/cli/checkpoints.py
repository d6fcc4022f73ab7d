"""What `python -m studio runs` does with checkpoints: look whether they are whole, and go on from one."""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from studio.cli import follow
from studio.cli.terminal import table, tick
from studio.config.load import overrides
from studio.config.train.saving import Scope
from studio.errors import RunError
from studio.runs import checkpoints, launchers, resumption
from studio.runs.checkpoints import Checkpoint
from studio.runs.store import Store

MB = 1e6


def verify(store: Store, arguments: argparse.Namespace) -> int:
    """Read the checkpoints of a run and compare them with their manifests. Exit code 1: one is damaged."""
    run = store.get(arguments.id)
    known = checkpoints.listed(run)
    wanted = [each for each in known if arguments.step in (None, each.step)]
    if not wanted:
        of = f" of step {arguments.step}" if arguments.step is not None else ""
        raise RunError(
            f"{run.id} has no checkpoint{of}; it has {', '.join(each.path.name for each in known) or 'none'}"
        )
    problems = {each.step: _problems(each, deep=not arguments.quick) for each in wanted}
    table(
        ["checkpoint", "files", "MB", "written by", "", ""],
        [_cells(each, problems[each.step], arguments.quick) for each in wanted],
    )
    return 1 if any(problems.values()) else 0


def resume(store: Store, arguments: argparse.Namespace) -> int:
    """Go on from a checkpoint, in a new run: the newest whole one with all of its states unless said otherwise."""
    run, changes = store.get(arguments.id), overrides(arguments.changes)
    for warning in resumption.judge(run, arguments.step, arguments.scope, **changes).warnings:
        print(f"warning: {warning}", file=sys.stderr)
    new = launchers.start_new(store, store.resume(run, arguments.step, arguments.scope, **changes))
    if arguments.detach:
        print(new.id)
        return 0
    return follow.follow(new)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """What `verify` is told."""
    parser.add_argument("--step", type=int, help="only that checkpoint")
    parser.add_argument("--quick", action="store_true", help="compare sizes only, not contents")


def add_resume(parser: argparse.ArgumentParser) -> None:
    """What `resume` is told, beside key=value."""
    parser.epilog = "key=value, as for train, gives options other values than before: max_steps=200 trains longer"
    parser.add_argument("--step", type=int, help="from that checkpoint instead of the newest")
    parser.add_argument(
        "--scope",
        choices=get_args(Scope),
        default="all",
        help="what is taken of it beside the weights: optimizer and schedule, one of them, or neither",
    )
    parser.add_argument("--detach", action="store_true", help="print the new run's id and return at once")


def _problems(checkpoint: Checkpoint, deep: bool) -> list[str]:
    def progress(done: int, total: int) -> None:
        if sys.stdout.isatty():
            tick(f"{checkpoint.path.name}: {done / MB:,.0f} of {total / MB:,.0f} MB")

    found = checkpoints.verify(checkpoint.path, deep, progress)
    if sys.stdout.isatty():
        tick("")
    return found


def _cells(checkpoint: Checkpoint, problems: list[str], quick: bool) -> list[str]:
    manifest = checkpoint.manifest
    if problems:
        verdict = "DAMAGED"
    elif manifest is None:
        verdict = "looks whole (an older version, without hashes)"
    else:
        verdict = "sizes are right" if quick else "whole"
    return [
        checkpoint.path.name,
        str(len(manifest.files)) if manifest else "",
        f"{checkpoint.bytes / MB:,.1f}",
        f"{manifest.strategy} × {manifest.world_size}" if manifest else "",
        verdict,
        "; ".join(problems),
    ]
