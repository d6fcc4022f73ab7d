"""What a DataConfig asks for, done: by a data run in its worker, and by the command line in the foreground.

Only `statistics` is missing: it needs a tokenizer (see studio.worker.statistics).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from studio.config.data import DataConfig
from studio.datasets import checks, hub, operations, upload
from studio.datasets.entry import Entry
from studio.datasets.index import save
from studio.datasets.loading import Fault
from studio.datasets.pace import Asked, Progress, in_turns
from studio.datasets.reading import stem_of
from studio.datasets.registry import Registry
from studio.errors import Cancelled

Figures = dict[str, Any]
Work = Callable[[DataConfig, Registry, Progress | None, Asked | None], Figures]


def perform(
    config: DataConfig, registry: Registry, progress: Progress | None = None, cancelled: Asked | None = None
) -> Figures:
    """Do what `config` asks for. `datasets` of the result names the sets that it made, `summary` is a sentence.

    Raises:
        DatasetError: what went wrong; nothing is left half made.
        Cancelled: `cancelled` said so.
    """
    return ACTIONS[config.action](config, registry, progress, cancelled)


def _check(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    near, threshold = config.near_duplicates, config.near_duplicate_threshold
    report = _surveyed(registry, config.dataset[0], progress, cancelled, near_duplicates=near, threshold=threshold)
    return {"rows": report.rows, "usable": report.usable, "findings": len(report.findings)}


def _surveyed(
    registry: Registry, name: str, progress: Progress | None, cancelled: Asked | None, **near: Any
) -> checks.Report:
    """What a check finds in a set, kept for whoever looks at it."""
    path, entry = registry.file(name), registry.entry(name)
    report, index = checks.survey(path, entry, progress=progress, cancelled=cancelled, **near)
    checks.keep(path, entry, report, registry.cache_dir)
    save(path, index, registry.cache_dir)
    return report


def _repair(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    mending, checking = in_turns(progress, 2)
    made, counts = checks.repair(
        registry,
        config.dataset[0],
        config.repairs,
        config.output_name,
        threshold=config.near_duplicate_threshold,
        progress=mending,
        cancelled=cancelled,
    )
    with suppress(Cancelled):  # the set is whole, and may be checked at any time
        _surveyed(registry, made.name, checking, cancelled)
    return {"datasets": [made.name], "summary": ", ".join(f"{name} {count:,} rows" for name, count in counts.items())}


def _duplicate(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    name, new = config.dataset[0], config.output_name
    return _made(operations.duplicate(registry, name, new, progress=progress, cancelled=cancelled))


def _deduplicate(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    name, new = config.dataset[0], config.output_name
    made = operations.deduplicate(registry, name, new, progress=progress, cancelled=cancelled)
    return {**_made(made), "summary": f"{made[0].origin.get('dropped', 0):,} rows left out"}


def _split(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    how = (config.fraction, config.column, config.seed, config.output_name)
    return _made(operations.split(registry, config.dataset[0], *how, progress=progress, cancelled=cancelled))


def _merge(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    names, new = config.dataset, config.output_name
    return _made(operations.merge(registry, names, output_name=new, progress=progress, cancelled=cancelled))


def _shuffle(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    how = (config.seed, config.output_name)
    return _made(operations.shuffle(registry, config.dataset[0], *how, progress=progress, cancelled=cancelled))


def _sample(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    how = (config.rows, config.fraction, config.seed, config.output_name)
    return _made(operations.sample(registry, config.dataset[0], *how, progress=progress, cancelled=cancelled))


def _convert(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    left_out: list[Fault] = []
    made = operations.convert(
        registry,
        config.dataset[0],
        config.shape,
        config.file_format,
        config.output_name,
        leave_out=left_out.append,
        progress=progress,
        cancelled=cancelled,
    )
    if not left_out:
        return _made(made)
    first = left_out[0]
    return {**_made(made), "summary": f"{len(left_out):,} rows left out; the first: row {first.row}, {first.what}"}


def _import(config: DataConfig, registry: Registry, progress: Progress | None, cancelled: Asked | None) -> Figures:
    if config.path:
        return _brought(config, Path(config.path), registry, progress, cancelled)
    if config.dataset:
        return _made([hub.fetch(registry, config.dataset[0], progress=progress, cancelled=cancelled)])
    where = (config.hub, config.hub_id or "", config.subset, config.split, config.output_name)
    return _made([hub.download(registry, *where, progress=progress, cancelled=cancelled)])


def _brought(
    config: DataConfig, path: Path, registry: Registry, progress: Progress | None, cancelled: Asked | None
) -> Figures:
    name = path.name if config.output_name is None else config.output_name + path.name[len(stem_of(path.name)) :]
    accepted = upload.accept(path, name, registry.data_dir, max_bytes=None, progress=progress, cancelled=cancelled)
    return {**_made([accepted.entry]), "summary": accepted.report.summary()}


def _made(entries: Sequence[Entry]) -> Figures:
    return {"datasets": [entry.name for entry in entries]}


ACTIONS: dict[str, Work] = {
    "check": _check,
    "repair": _repair,
    "duplicate": _duplicate,
    "deduplicate": _deduplicate,
    "split": _split,
    "merge": _merge,
    "shuffle": _shuffle,
    "sample": _sample,
    "convert": _convert,
    "import": _import,
}
