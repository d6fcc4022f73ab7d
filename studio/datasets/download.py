"""A set as one file of the kind that a person wants."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from studio.datasets import writing
from studio.datasets.operations.sources import opened
from studio.datasets.pace import Asked, Progress, in_turns
from studio.datasets.registry import Registry
from studio.errors import DatasetError
from studio.files import reason_of


def write(
    registry: Registry,
    name: str,
    file_format: str,
    target: Path,
    *,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> Path:
    """Write the rows of `name`, as they are, to the file `target` as jsonl, json, csv or parquet; `target`.

    An older file of that name stays until the new one is whole.

    Raises:
        DatasetError: a set or row that cannot be read, a format that is not written here, a place that takes no file.
        Cancelled: as asked; nothing is left.
    """
    source = opened(registry, name)
    told = in_turns(progress, writing.PASSES.get(file_format, 1))
    part = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}"[-200:])
    try:
        writing.write(part, file_format, lambda: source.records(next(told), cancelled))
        os.replace(part, target)
    except OSError as error:
        raise DatasetError(f"{target} could not be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return target
