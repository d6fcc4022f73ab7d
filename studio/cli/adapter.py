"""python -m studio adapter extract|convert|scale|average [ADAPTER_OR_RUN ...] | FILE.yaml key=value ..."""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.adapter import AdapterConfig
from studio.exports import adapter


def main(words: Sequence[str]) -> int:
    """Make an adapter of others, or of the difference of two models."""
    return carry_out(ADAPTER, words)


ADAPTER = Command(
    "adapter", AdapterConfig, adapter.plan,
    "Make an adapter: extract (the difference of tuned_model_name_or_path and its base, or what is in a checkpoint), "
    "convert (export_dtype=bfloat16), scale (scale=0.5), average (adapter_weights=0.7,0.3 combination_type=svd).",
    "ACTION ADAPTER_OR_RUN ...",
)  # fmt: skip
