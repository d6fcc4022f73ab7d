"""python -m studio export quantized MODEL | FILE.yaml key=value ..."""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.quantize import QuantizeConfig
from studio.exports import quantize


def main(words: Sequence[str]) -> int:
    """Write a model with smaller weights, measured before and after."""
    return carry_out(QUANTIZED, words)


QUANTIZED = Command(
    "export quantized", QuantizeConfig, quantize.plan, "Write a model with smaller weights, measured before and after.",
    "MODEL_OR_RUN",
)  # fmt: skip
