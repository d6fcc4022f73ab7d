"""Several prepared datasets as one training set, and what is held out of them for validation.

Rows are held out before the sets are mixed, and whole, so that neither a row that the mixture repeats nor the sequences
that one row became are on both sides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, groupby, islice
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import numpy
from datasets import Dataset, Features, IterableDataset, concatenate_datasets, interleave_datasets

from studio.config.train import TrainConfig
from studio.errors import DatasetError
from studio.worker.columns import ROW
from studio.worker.omission import told
from studio.worker.prepared import Figures, Prepared, Recipe
from studio.worker.rows import Part

STOPPING = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}
Table: TypeAlias = Dataset | IterableDataset


@dataclass(frozen=True)
class Rows:
    """What is trained and what is validated: nothing, one set, or several by name that are each validated by itself.

    Rows have the columns of their stage (see `columns`), sequences of `cutoff_len` tokens at most. `remarks` say what
    became of those left out. `ends` are two rows, the first and the last (of a stream, the second). `files` are those
    that the rows of each dataset to train on are in.
    """

    train: Table
    validation: Dataset | dict[str, Dataset] | None
    remarks: list[str]
    ends: tuple[dict[str, Any], dict[str, Any]]
    cutoff_len: int
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


def mix(config: TrainConfig, parts: Sequence[Prepared], own: Sequence[Prepared], cutoff_len: int) -> Rows:
    """The training set of `parts`, mixed as configured, and validation on rows of it or on sets of their `own`.

    Raises:
        DatasetError: nothing is left to train on, with the reasons.
    """
    kept, remarks = _usable(parts, cutoff_len)
    if len(kept) < len(parts) and config.mix_strategy != "concat":
        raise DatasetError("a dataset has no row to learn from and cannot be interleaved. " + "; ".join(remarks))
    tables = [_table(part) for part in kept]
    validation = _own_validation(config, own, cutoff_len)
    if config.val_size:
        tables, held = _hold_out(tables, config.val_size, config.seed)
        validation = held.remove_columns(ROW)
    tables = [table.remove_columns(ROW) for table in tables]
    files = {part.name: part.files for part in parts}
    return Rows(_mixed(config, tables), validation, remarks, (tables[0][0], tables[-1][-1]), cutoff_len, files)


def stream(
    config: TrainConfig,
    recipes: Sequence[Recipe],
    own: Sequence[Prepared],
    cutoff_len: int,
    tell: Callable[[str], None],
) -> Rows:
    """As `mix`, but encoding while the training goes on; nothing but a buffer of rows is held in memory.

    `val_size` rows are taken from the beginnings of the sets, from each as many. Of rows left out, `tell` learns the
    first fault as it is met, and all once the set has been read through.

    Raises:
        DatasetError: a set has no row to learn from.
    """
    features = Features.from_arrow_schema(recipes[0].schema)
    tables = [
        IterableDataset.from_generator(partial(_encoded, recipe, _Once(tell)), features=features) for recipe in recipes
    ]
    validation = _own_validation(config, own, cutoff_len)
    if config.val_size:
        share = ceil(config.val_size / len(tables))
        held = [_first_rows(table, share) for table in tables]
        validation = Dataset.from_list([row for rows in held for row in rows], features=features).remove_columns(ROW)
        tables = [table.skip(len(rows)) for table, rows in zip(tables, held, strict=True)]
    tables = [table.remove_columns(ROW) for table in tables]
    two = list(islice(tables[0], 2))
    shuffled = [table.shuffle(seed=config.seed, buffer_size=config.buffer_size) for table in tables]
    files = {recipe.source.name: (recipe.source.path,) for recipe in recipes}
    return Rows(_mixed(config, shuffled), validation, [], (two[0], two[-1]), cutoff_len, files)


def endless(rows: Rows) -> Rows:
    """A stream that begins again, in another order, where it would end.

    The trainer thinks that a stream lasts: a step whose first batches came before the end would never be made, and no
    resume could pass the end.
    """
    table = rows.train
    return replace(rows, train=IterableDataset.from_generator(partial(_again, table), features=table.features))


def _again(table: IterableDataset) -> Iterator[dict[str, Any]]:
    for epoch in count():
        table.set_epoch(epoch)
        yield from table


def _first_rows(table: IterableDataset, wanted: int) -> list[dict[str, Any]]:
    """The sequences of the first `wanted` rows."""
    by_row = groupby(table, key=itemgetter(ROW))
    return [sequence for _, sequences in islice(by_row, wanted) for sequence in sequences]


def _encoded(recipe: Recipe, tell: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    name, figures = recipe.source.name, Figures()
    for row in recipe.rows(Part(), figures):
        if figures.faults:
            tell(f"dataset {name}: faulty rows are left out, first {figures.first_fault}")
        yield {column: getattr(row, column) for column in recipe.schema.names}
    _, remarks = _usable([Prepared(name, (), figures)], recipe.masking.cutoff_len)
    for remark in remarks:
        tell(remark)


class _Once:
    """`tell`, but nothing twice: a stream begins anew every epoch."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # the library pickles a generator to give it a name


def _own_validation(
    config: TrainConfig, parts: Sequence[Prepared], cutoff_len: int
) -> Dataset | dict[str, Dataset] | None:
    if not parts:
        return None
    tables = {part.name: _table(part).remove_columns(ROW) for part in _usable(parts, cutoff_len)[0]}
    return tables if config.eval_on_each_dataset else concatenate_datasets(list(tables.values()))


def _mixed(config: TrainConfig, tables: list[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    if config.mix_strategy == "concat":
        return concatenate_datasets(tables)
    if not all(len(table) for table in tables if isinstance(table, Dataset)):
        raise DatasetError("no row of a dataset is left to interleave: lower val_size, or set mix_strategy: concat")
    return interleave_datasets(
        tables,
        probabilities=[float(share) for share in config.interleave_probs] or None,
        seed=config.seed,
        stopping_strategy=STOPPING[config.mix_strategy],
    )


def _table(part: Prepared) -> Dataset:
    return concatenate_datasets([Dataset.from_file(str(path)) for path in part.files])


def _usable(parts: Sequence[Prepared], cutoff_len: int) -> tuple[list[Prepared], list[str]]:
    """The parts with rows, and a remark on each kind of row that is cut or left out."""
    figures = sum((part.figures for part in parts), Figures())
    remarks = [
        f"dataset {part.name}: {part.figures.faults} faulty rows left out, first {part.figures.first_fault}"
        for part in parts
        if part.figures.faults
    ]
    remarks += _left_out(figures, cutoff_len)
    if not figures.rows:
        raise DatasetError("there is nothing to train on. " + ("; ".join(remarks) or "The datasets have no rows"))
    if figures.more:
        remarks.append(
            "the chat template rewrites earlier turns, so conversations are learnt answer by answer, each with what "
            f"was before it: {figures.seen - figures.more} rows became {figures.seen} sequences"
        )
    if figures.cut:
        remarks.append(f"{figures.cut} of {figures.rows} rows are longer than {cutoff_len} tokens and were cut to them")
    return [part for part in parts if part.figures.rows], remarks


def _left_out(figures: Figures, cutoff_len: int) -> Iterator[str]:
    if figures.late:
        why = f"their answer begins after cutoff_len ({cutoff_len} tokens); raise it"
        yield f"{figures.late} of {figures.seen} rows left out: {why}"
    if figures.silent:
        yield f"{figures.silent} of {figures.seen} rows left out: they have no answer by the assistant"
    if figures.alike:
        why = f"their two answers are the same up to cutoff_len ({cutoff_len} tokens)"
        yield f"{figures.alike} of {figures.seen} rows left out: {why}"
    if figures.lost:
        why = told(f"what they say of tools, first {figures.first_lost}")
        yield f"{figures.lost} of {figures.seen} rows left out: {why}"


def _hold_out(tables: list[Dataset], val_size: float, seed: int) -> tuple[list[Dataset], Dataset]:
    """The tables without some rows chosen by chance, the same for the same seed, and those rows."""
    owners = [_owners(table) for table in tables]
    counts = [int(owner[-1]) + 1 for owner in owners]
    total = sum(counts)
    wanted = int(val_size) if val_size >= 1 else max(1, round(val_size * total))
    if wanted >= total:
        raise DatasetError(f"val_size {val_size:g} would hold out all {total} rows: lower it")
    chosen = numpy.zeros(total, dtype=bool)
    chosen[random.Random(seed).sample(range(total), wanted)] = True
    begins = numpy.cumsum([0, *counts[:-1]])
    held = [chosen[begin + owner] for begin, owner in zip(begins, owners, strict=True)]
    pairs = list(zip(tables, held, strict=True))
    kept = [table.select(numpy.flatnonzero(~out)) for table, out in pairs]
    return kept, concatenate_datasets([table.select(numpy.flatnonzero(out)) for table, out in pairs])


def _owners(table: Dataset) -> Any:
    """For each sequence which row of the table it comes of, counted from 0."""
    rows = table.data.column(ROW).to_numpy()
    return numpy.cumsum(numpy.diff(rows, prepend=rows[0]) != 0)
