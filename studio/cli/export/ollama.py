"""python -m studio export ollama MODEL_OR_RUN | FILE.yaml key=value ..."""

from __future__ import annotations

from collections.abc import Sequence

from studio.cli.export.command import Command, carry_out
from studio.config.ollama import OllamaConfig
from studio.exports import ollama


def main(words: Sequence[str]) -> int:
    """Write a GGUF file and the Modelfile for it, and have Ollama take them in."""
    return carry_out(OLLAMA, words)


OLLAMA = Command(
    "export ollama", OllamaConfig, ollama.plan,
    "Write a model for Ollama: a GGUF file and a Modelfile whose template gives the same tokens as the model's own.",
    "MODEL_OR_RUN",
)  # fmt: skip
