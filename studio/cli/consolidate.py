"""python -m studio consolidate RUN [step=N] key=value ..."""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.consolidate import ConsolidateConfig
from studio.exports import consolidate


def main(words: Sequence[str]) -> int:
    """Make one model of the parts that a checkpoint is in."""
    return carry_out(CONSOLIDATE, words)


CONSOLIDATE = Command(
    "consolidate", ConsolidateConfig, consolidate.plan,
    "Make a model, or an adapter, that can be served of a checkpoint, which several processes may have left in parts.",
    "RUN",
)  # fmt: skip
