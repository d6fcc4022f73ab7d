"""Rows counted in tokens: measured by a worker, which may load a tokenizer, and described in lines."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from studio import settings
from studio.cli.data.action import config, meter
from studio.config.data import DataConfig
from studio.datasets import statistics
from studio.datasets.checks import Finding
from studio.datasets.copying import copy
from studio.datasets.entry import Entry
from studio.datasets.registry import Registry
from studio.datasets.statistics import Histogram, Statistics, percentile
from studio.errors import RunError
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.store import Store

POLL_S = 0.2
BINS = 12
BAR_CHARS = 40


def measured(registry: Registry, arguments: argparse.Namespace, name: str) -> Statistics:
    """The statistics of a registered set: those measured before, or new ones.

    Raises:
        ConfigError: no model was given, or a flag is wrong.
        RunError: the measuring failed, with its reason.
    """
    asked = config(arguments, "statistics", registry, dataset=[name])
    return statistics.stored(registry, asked) or _measure(registry, asked, Store(settings.from_environment().saves_dir))


def findings(registry: Registry, arguments: argparse.Namespace, path: Path, entry: Entry) -> tuple[Finding, ...]:
    """What the tokens of a file give cause to say; the file need not be registered."""
    if entry.name in registry.names() and registry.entry(entry.name) == entry:
        return statistics.findings(measured(registry, arguments, entry.name))
    with _registered(path, entry) as (own, saves):
        asked = config(arguments, "statistics", own, dataset=[entry.name])
        return statistics.findings(_measure(own, asked, Store(saves)))


def described(figures: Statistics) -> str:
    """Lines for a person."""
    share = f"{figures.rows_read:,} of {figures.rows:,} rows" if figures.is_sample else f"all {figures.rows:,} rows"
    packed = figures.steps_per_epoch(1, 1, packing=True)
    lines = [
        f"{figures.dataset} with {figures.model}, cutoff {figures.cutoff_len:,}: {share}, "
        f"{figures.rows_measured:,} usable, measured in {figures.seconds:.1f} s",
        *_bars(figures.lengths, figures.cutoff_len),
        f"tokens a row           {_spread(figures.lengths)}",
        f"tokens of prompts      {_spread(figures.prompt_lengths)}",
        f"tokens of answers      {_spread(figures.response_lengths)}",
        f"turns                  {_spread(figures.turns)}",
        f"trained                {figures.trained_share:.1%} of the tokens kept",
        f"longer than the cutoff {figures.too_long:,} rows; {figures.dropped:,} of them lose all that is trained",
        f"nothing to train       {figures.untrained:,} rows",
        f"tools left out         {figures.tools_left_out:,} rows",
        f"tokens an epoch        {'about ' if figures.is_sample else ''}{figures.tokens_per_epoch:,}",
        f"packing                {figures.packing_efficiency:.1%} full, {packed:,} sequences",
        f"languages              {', '.join(f'{name} {count:,}' for name, count in figures.languages)}",
    ]
    return "\n".join(lines)


def _measure(registry: Registry, asked: DataConfig, store: Store) -> Statistics:
    run = launchers.begin(store, asked)
    try:
        _follow(run)
    except KeyboardInterrupt:
        run.stop()
        _follow(run)
        raise
    figures = statistics.stored(registry, asked)
    if figures is None:
        raise RunError(run.reason or f"the measuring ended without a result; its log: {run.log}")
    return figures


def _follow(run: Run) -> None:
    with meter("measuring tokens") as progress:
        while run.is_active:
            status = run.status
            if status.get("total_steps"):
                progress(status.get("step") or 0, status["total_steps"])
            time.sleep(POLL_S)


@contextmanager
def _registered(path: Path, entry: Entry) -> Iterator[tuple[Registry, Path]]:
    """A registry for the moment that holds one file, and a folder for the run beside it."""
    with tempfile.TemporaryDirectory() as folder:
        own = Registry(Path(folder, "data"))
        own.data_dir.mkdir()
        copy(path, own.data_dir / path.name)
        own.add(replace(entry, file_name=path.name))
        yield own, Path(folder, "saves")


def _spread(histogram: Histogram) -> str:
    at = {share: percentile(histogram, share) for share in (0.5, 0.9, 0.99, 1.0)}
    return f"median {at[0.5]:,}, 90 % {at[0.9]:,}, 99 % {at[0.99]:,}, longest {at[1.0]:,}"


def _bars(histogram: Histogram, cutoff: int) -> Iterator[str]:
    """The histogram in a few bins, with a mark where the cutoff lies."""
    top = max((value for value, _ in histogram), default=0)
    size = max(1, -(-top // BINS))
    counts = [0] * BINS
    for value, count in histogram:
        counts[min(BINS - 1, max(0, value - 1) // size)] += count
    widest = max(counts) or 1
    for number, count in enumerate(counts):
        low, high = number * size + 1, (number + 1) * size
        mark = " < cutoff" if low <= cutoff < high else ""
        yield f"{low:>8,} to {high:<8,} {'█' * round(BAR_CHARS * count / widest):<{BAR_CHARS}} {count:,}{mark}"
