"""Whether a model is the one that an adapter was trained on, and not another of equal shape."""

from __future__ import annotations

import hashlib
from pathlib import Path

from studio import models
from studio.files import read_record


def stranger(adapter: Path, base: Path) -> str | None:
    """Why `base` is not the model that the adapter in `adapter` was trained on, in a sentence; None where it may be.

    An adapter from elsewhere says nothing of its base, and nothing is held against it.
    """
    known = read_record(adapter / "base.json")
    name = known.get("name")
    if known.get("weights") not in (None, models.weights_fingerprint(base)):
        return f"{adapter} was trained on {name}, and the weights in {base} are others: is it the same model?"
    if known.get("sha256") not in (None, hashlib.sha256((base / "config.json").read_bytes()).hexdigest()):
        return f"{adapter} was trained on {name}, whose config.json is not that of {base}: is it the same model?"
    return None
