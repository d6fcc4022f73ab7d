"""Rows shown as their tokens: asked of a process of its own, because a tokenizer takes seconds to load."""

from __future__ import annotations

from studio.datasets.formats import Row
from studio.datasets.masking import Masking, MaskView


class Inspector:
    """A resident process `python -m studio.worker.inspector`, started when it is first asked. Thread-safe."""

    def mask(self, model: str, value: Row, masking: Masking, trust_remote_code: bool = False) -> MaskView:
        """`value` as tokens of the model `model` (a name as a person gives it).

        Raises:
            ModelError: the model has no tokenizer that can be used.
            RowError: the template refuses the row.
            DatasetError: no answer in time.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the process."""
