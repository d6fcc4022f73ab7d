"""python -m studio export gguf MODEL outtype=q8_0,q4_k_m"""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.gguf import GgufConfig
from studio.exports.gguf import plan

COMMAND = Command("export gguf", GgufConfig, plan, "Write a model for llama.cpp, and prove it there.", "MODEL_OR_RUN")


def main(words: Sequence[str]) -> int:
    """Write the files, and print the report on them."""
    return carry_out(COMMAND, words)
