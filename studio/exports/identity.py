"""Whether a model is the one that an adapter was trained on, and not another of equal shape."""

from __future__ import annotations

import hashlib
from pathlib import Path

from studio.files import read_record


def stranger(adapter: Path, base: Path) -> str | None:
    """Why `base` is not the model that the adapter in `adapter` was trained on, in a sentence; None where it may be.

    An adapter from elsewhere says nothing of its base, and nothing is held against it.
    """
    known = read_record(adapter / "base.json")
    if known.get("sha256") not in (None, hashlib.sha256((base / "config.json").read_bytes()).hexdigest()):
        return f"{adapter} was trained on {known.get('name')}, whose config.json is not that of {base}"
    return None
