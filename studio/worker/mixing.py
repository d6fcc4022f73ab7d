"""Several prepared datasets as one training set, and what is held out of them for validation.

Rows are held out before the sets are mixed, so that a row that the mixture repeats is never on both sides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from typing import Any, TypeAlias

from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets, interleave_datasets

from studio.config.train import TrainConfig
from studio.errors import DatasetError
from studio.worker.prepared import Figures, Prepared, Recipe
from studio.worker.rows import Part

STOPPING = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}
FEATURES = Features({name: List(Value("int32")) for name in ("input_ids", "labels")})
Table: TypeAlias = Dataset | IterableDataset


@dataclass(frozen=True)
class Rows:
    """What is trained and what is validated: nothing, one set, or several by name that are each validated by itself.

    Rows have `input_ids` and `labels`, lists of as many ints, `cutoff_len` at most. `remarks` say what became
    of those left out.
    """

    train: Table
    validation: Dataset | dict[str, Dataset] | None
    remarks: list[str]
    cutoff_len: int

    def ends(self) -> tuple[list[int], list[int]]:
        """The token ids of two training rows, the first and (of a stream: the next) the last."""
        if isinstance(self.train, Dataset):
            first, last = self.train[0], self.train[len(self.train) - 1]
        else:
            two: list[Any] = list(islice(self.train, 2))
            first, last = two[0], two[-1]
        return first["input_ids"], last["input_ids"]


def mix(config: TrainConfig, parts: Sequence[Prepared], own: Sequence[Prepared], cutoff_len: int) -> Rows:
    """The training set of `parts`, mixed as configured, and validation on rows of it or on sets of their `own`.

    Raises:
        DatasetError: nothing is left to train on, with the reasons.
    """
    kept, remarks = _usable(parts, cutoff_len)
    tables = [_table(part) for part in kept]
    validation = _own_validation(config, own, cutoff_len)
    if config.val_size:
        tables, validation = _hold_out(tables, config.val_size, config.seed)
    return Rows(_mixed(config, tables), validation, remarks, cutoff_len)


def stream(config: TrainConfig, recipes: Sequence[Recipe], own: Sequence[Prepared], cutoff_len: int) -> Rows:
    """As `mix`, but encoding while the training goes on; nothing but a buffer of rows is held in memory.

    `val_size` rows are taken from the beginnings of the sets, from each as many.

    Raises:
        DatasetError: a set has no row to learn from.
    """
    tables = [IterableDataset.from_generator(partial(_encoded, recipe), features=FEATURES) for recipe in recipes]
    validation = _own_validation(config, own, cutoff_len)
    if config.val_size:
        share = ceil(config.val_size / len(tables))
        validation = Dataset.from_list([row for table in tables for row in table.take(share)], features=FEATURES)
        tables = [table.skip(share) for table in tables]
    shuffled = [table.shuffle(seed=config.seed, buffer_size=config.buffer_size) for table in tables]
    return Rows(_mixed(config, shuffled), validation, [], cutoff_len)


def _encoded(recipe: Recipe) -> Iterator[dict[str, list[int]]]:
    figures = Figures()
    for row in recipe.rows(Part(), figures):
        yield {"input_ids": row.input_ids, "labels": row.labels}
    _usable([Prepared(recipe.source.name, (), figures)], recipe.masking.cutoff_len)


def _own_validation(
    config: TrainConfig, parts: Sequence[Prepared], cutoff_len: int
) -> Dataset | dict[str, Dataset] | None:
    if not parts:
        return None
    tables = {part.name: _table(part) for part in _usable(parts, cutoff_len)[0]}
    return tables if config.eval_on_each_dataset else concatenate_datasets(list(tables.values()))


def _mixed(config: TrainConfig, tables: list[Table]) -> Table:
    if len(tables) == 1:
        return tables[0]
    if config.mix_strategy == "concat":
        return concatenate_datasets(tables)
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
    if figures.cut:
        remarks.append(f"{figures.cut} of {figures.rows} rows are longer than {cutoff_len} tokens and were cut there")
    return [part for part in parts if part.figures.rows], remarks


def _left_out(figures: Figures, cutoff_len: int) -> Iterator[str]:
    if figures.late:
        why = f"their answer begins after cutoff_len ({cutoff_len} tokens); raise it"
        yield f"{figures.late} of {figures.seen} rows left out: {why}"
    if figures.silent:
        yield f"{figures.silent} of {figures.seen} rows left out: they have no answer by the assistant"


def _hold_out(tables: list[Dataset], val_size: float, seed: int) -> tuple[list[Dataset], Dataset]:
    """The tables without some rows chosen by chance, the same for the same seed, and those rows."""
    total = sum(map(len, tables))
    count = int(val_size) if val_size >= 1 else max(1, round(val_size * total))
    if count >= total:
        raise DatasetError(f"val_size {val_size:g} would hold out all {total} rows: lower it")
    chosen = set(random.Random(seed).sample(range(total), count))
    kept, begin = [], 0
    for table in tables:
        kept.append(table.select([row for row in range(len(table)) if begin + row not in chosen]))
        begin += len(table)
    return kept, concatenate_datasets(tables).select(sorted(chosen))
