"""What data a training sees, told by its contents: the same rows on another machine are the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import ipc

from studio.files import folder_bytes


def fingerprints(files: Mapping[str, tuple[Path, ...]]) -> dict[str, str]:
    """Of each dataset by its name; `files` are those that its rows are in.

    Encoded rows are read whole, 1.5 GB a second. Of other files, which are streamed and may be large, only the sizes
    are taken.
    """
    return {name: _rows(paths) if _are_encoded(paths) else _sizes(paths) for name, paths in files.items()}


def _are_encoded(paths: tuple[Path, ...]) -> bool:
    return all(path.suffix == ".arrow" for path in paths)


def _sizes(paths: tuple[Path, ...]) -> str:
    sizes = [path.stat().st_size if path.is_file() else folder_bytes(path) for path in paths]
    return f"{sum(sizes)} bytes"


def _rows(paths: tuple[Path, ...]) -> str:
    """However many files and batches the rows are dealt out to."""
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    for path in paths:
        with pyarrow.memory_map(str(path)) as file, ipc.open_stream(file) as stream:
            for batch in stream:
                for name, column in zip(batch.schema.names, batch.columns, strict=True):
                    _add(digests, name, column)
    return hashlib.sha256("".join(digests[name].hexdigest() for name in sorted(digests)).encode()).hexdigest()


def _add(digests: dict[str, Any], name: str, column: pyarrow.Array) -> None:
    while pyarrow.types.is_list(column.type):
        digests[f"{name} lengths"].update(column.value_lengths().to_numpy(zero_copy_only=False).tobytes())
        column = column.flatten()
    if pyarrow.types.is_string(column.type):
        digests[name].update("".join(f"{text}\0" for text in column.to_pylist()).encode("utf-8", "surrogatepass"))
    else:
        digests[name].update(column.to_numpy(zero_copy_only=False).tobytes())
