"""Folders in which something is made: moved away from there when it is whole, or gone without a trace.

Such a folder is locked by the process that fills it. Where that process was killed the lock is free, and whoever makes
the next folder there removes what it left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# a folder younger than this may not be locked yet
FRESH_S = 60


@contextmanager
def scratch(parent: Path, prefix: str = "") -> Iterator[Path]:
    """A folder in `parent` whose name begins with `prefix`; gone at the end, however it ends.

    Raises:
        OSError: it cannot be made.
    """
    _sweep(parent, prefix)
    folder = parent / f"{prefix}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove the folders whose makers are gone."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > FRESH_S and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
