"""python -m studio merge ADAPTER_OR_RUN [ADAPTER_OR_RUN ...] | FILE.yaml key=value ..."""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.merge import MergeConfig
from studio.exports import merge


def main(words: Sequence[str]) -> int:
    """Fold adapters into their base and prove that nothing was lost."""
    return carry_out(MERGE, words)


MERGE = Command(
    "merge", MergeConfig, merge.plan, "Fold LoRA adapters into their base model, compared with them.", "ADAPTER_OR_RUN"
)
