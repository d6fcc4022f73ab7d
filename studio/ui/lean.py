"""Importing Gradio in half the time: 4.5 s on a slow core as it comes. Imported before anything of Gradio is.

Gradio writes stub files for editors whenever it is imported, for which it parses its own sources (2 s), and loads an
MCP server if that package happens to be installed (0.5 s). A studio needs neither.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

STUBS = "gradio.component_meta"


class WithoutStubs(MetaPathFinder):
    """Finds the module that writes the stubs, and takes that function out once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != STUBS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                module.create_or_modify_pyi = lambda *_: None  # type: ignore[attr-defined]

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def prepare() -> None:
    """Set both up; the collector rests until `settle`."""
    if "gradio" not in sys.modules:
        sys.meta_path.insert(0, WithoutStubs())
        sys.modules.setdefault("mcp", None)  # type: ignore[arg-type]  # how Python spells "not importable"
        gc.disable()


def settle() -> None:
    """Imports are done: what they left behind is never garbage, what comes may be."""
    gc.enable()
    gc.freeze()
