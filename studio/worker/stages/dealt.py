"""A trainer that deals the rows of a step anew, see worker.fast.passes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from studio.worker.fast import passes
from studio.worker.fast.passes import Batch, Row
from studio.worker.stages.recorded import Recorded


class Dealt(Recorded):
    """Mixed into a trainer of TRL as Recorded is. Where it `deals`, a step has as many batches as ever, for all that
    counts them, but the first ones are empty: the last ones hold all rows.
    """

    deals = False
    data_collator: Any

    def get_train_dataloader(self) -> DataLoader[Any]:
        if not self.deals:
            return super().get_train_dataloader()
        ordinary, self.data_collator = self.data_collator, Batch
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = ordinary

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        batches = list(islice(epoch_iterator, num_batches)) if self.deals else []
        if not batches:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        step = self.fresh(batches)
        tokens = self.setting.passes.tokens or 1
        dealt = passes.deal([self.tokens_in(row) for row in step], tokens, len(batches))
        parts = [[step[number] for number in numbers] for numbers in dealt]
        filled = [self.passed(self.collate(rows), rows, step) for rows in parts]
        counted = self._get_num_items_in_batch(filled, device)
        empty: list[dict[str, Any]] = [{}] * (len(batches) - len(filled))
        return empty + [self.sent(batch) for batch in filled], counted

    def fresh(self, batches: list[Batch]) -> list[Row]:
        """The rows of a step, one at least."""
        return [row for batch in batches for row in batch.rows]

    def tokens_in(self, row: Row) -> int:
        """Tokens of `row` that go through the model."""
        return len(row["input_ids"])

    def collate(self, rows: list[Row]) -> dict[str, Any]:
        """`rows` as one batch."""
        batch: dict[str, Any] = self.data_collator(rows)
        return batch

    def sent(self, batch: dict[str, Any]) -> dict[str, Any]:
        """`batch` on the device, as the model gets it."""
        return passes.send(batch, self.args.device)

    def passed(self, batch: dict[str, Any], rows: list[Row], step: list[Row]) -> dict[str, Any]:
        """The batch of a pass of such `rows`, of all those of its `step`."""
        return batch
