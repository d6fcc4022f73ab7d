"""What a training fills in for {{name}} and {{author}}: in the rows of a conversation, what anyone says in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

KEYS = {"{{name}}": "model_name", "{{author}}": "model_author"}
CODES_OF = {"{{name}}": "name_placeholder", "{{author}}": "author_placeholder"}  # the findings that tell of them


def unfilled(marks: Iterable[str], given: Mapping[str, Any]) -> str:
    """What is to be set before rows with these `marks` can be trained on, to follow "row 1 " or "demo "; else empty.

    `given` are the values of a configuration by key.
    """
    missing = [(mark, KEYS[mark]) for mark in marks if not given.get(KEYS[mark])]
    if not missing:
        return ""
    found, keys = (" and ".join(column) for column in zip(*missing, strict=True))
    return f"contains {found}: set {keys} to say what the model calls itself and who made it"
