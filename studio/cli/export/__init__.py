"""python -m studio export KIND | FILE.yaml ...: a model for llama.cpp, for Ollama, with smaller weights, or merged.

LLaMA-Factory's export files say by their keys what they want: a quantised model, or a merged one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from studio.config import load

ASKED_WRONGLY = 2
QUANTISES = "export_quantization_bit"
# the modules that do it, imported only when asked for
KINDS = {
    "gguf": ("studio.cli.export.gguf", "write a model as GGUF, for llama.cpp"),
    "ollama": ("studio.cli.export.ollama", "write a folder that Ollama makes a model of"),
    "quantized": ("studio.cli.export.quantized", "write a model with smaller weights, for vLLM or Transformers"),
    "merge": ("studio.cli.merge", "fold adapters into their base; the same as python -m studio merge"),
}


def main(words: Sequence[str]) -> int:
    """Export as the first word says; a YAML file is read to know what it asks for."""
    first = words[0] if words else "--help"
    if first in KINDS:
        return _run(first, words[1:])
    if first.endswith((".yaml", ".yml")):
        return _run(_asked_by(Path(first)), words)
    return _usage(first)


def _run(kind: str, words: Sequence[str]) -> int:
    module, _ = KINDS[kind]
    code: int = import_module(module).main(words)
    return code


def _asked_by(path: Path) -> str:
    """The kind that a file of ours names, or that a file of LLaMA-Factory means."""
    values = load.read_yaml(path)
    named = {"quantize": "quantized"}.get(str(values.get("kind")), str(values.get("kind")))
    if named in KINDS:
        return named
    return "quantized" if values.get(QUANTISES) else "merge"


def _usage(first: str) -> int:
    is_asked = first in ("-h", "--help", "help")
    out = sys.stdout if is_asked else sys.stderr
    if not is_asked:
        print(f"There is no export {first!r}.", file=out)
    print("usage: python -m studio export KIND ... | FILE.yaml, with --help for each kind:\n", file=out)
    for kind, (_, help_text) in KINDS.items():
        print(f"  {kind:<9}  {help_text}", file=out)
    return 0 if is_asked else ASKED_WRONGLY
