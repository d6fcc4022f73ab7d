"""In which words a model is asked: by the chat template of its server, or by one that goes with the request.

A server holds one template, its base model's. An adapter that was trained with another brings it along, and the token
that ends its answers; a base model without a template is asked as the adapter beside it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models, templates
from studio.serving.speaker import Speaker


@dataclass(frozen=True)
class Wording:
    """What a request says of it; nothing where the server's own template and end are right."""

    template: str | None = None
    stop_token_ids: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The options of a request."""
        values: dict[str, Any] = {"chat_template": self.template} if self.template else {}
        return values | ({"stop_token_ids": list(self.stop_token_ids)} if self.stop_token_ids else {})


SERVERS_OWN = Wording()


def wording(who: Speaker, together: Iterable[Speaker] = (), given: str | None = None) -> Wording:
    """How `who` is asked, in a conversation with others.

    `given`: the template, by name or file, that the server was started with in place of its model's own.

    Raises:
        ModelError: a file with a template is damaged.
    """
    base = models.folder_of(who.base)
    own = _text(given) if given else models.chat_template(base) if base else None
    if who.adapter:
        return _of_adapter(Path(who.adapter), base, own)
    if base is None or own:
        return Wording(None, _end(given, base))
    beside = (Path(each.adapter) for each in together if each.adapter and each.base == who.base)
    asked = (_of_adapter(adapter, base, own) for adapter in beside)
    return next((found for found in asked if found.template), Wording(templates.text("default")))


def _text(given: str) -> str | None:
    """The text of a named template or of a file; None for one that is gone since the server read it."""
    if not given.endswith(".jinja"):
        return templates.text(given)
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _end(given: str | None, base: Path | None) -> tuple[int, ...]:
    """The token that ends answers in a named template, where the base ends its own otherwise."""
    if base is None or given is None or given.endswith(".jinja"):
        return ()
    end, known = templates.find(given).end, models.added_tokens(base)
    return (known[end],) if end in known and end != models.end_token(base) else ()


def _of_adapter(adapter: Path, base: Path | None, own: str | None) -> Wording:
    template = models.chat_template(adapter) or own or templates.text("default")
    end, known = models.end_token(adapter), models.added_tokens(adapter)
    is_other = end in known and base is not None and end != models.end_token(base)
    return Wording(template if template != own else None, (known[str(end)],) if is_other else ())
