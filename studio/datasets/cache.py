"""What `data/.cache/` holds about a file: under names with its fingerprint, so that a changed file finds nothing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from studio.datasets.reading import files_of


def fingerprint(path: Path) -> str:
    """Changes whenever the file or folder does: where it is, a dash, then size and time of change of what it holds."""
    files = files_of(path)
    states = [(file.name, state.st_size, state.st_mtime_ns, state.st_ino) for file in files for state in [file.stat()]]
    return f"{_digest(str(path.resolve()))[:12]}-{_digest(repr(states))[:24]}"


def forget(path: Path, cache_dir: Path, but: str = "") -> None:
    """Remove all that the cache holds of `path`, which may be gone, except what is of the fingerprint `but`."""
    for kept in cache_dir.glob(f"*{_digest(str(path.resolve()))[:12]}-*"):
        if but and but in kept.name:
            continue
        if kept.is_dir():
            shutil.rmtree(kept, ignore_errors=True)
        else:
            kept.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
