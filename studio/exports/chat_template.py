"""A model's chat template applied to messages without Transformers, for looking at it before anything is started.

What is written by this is proven against Transformers later: a difference would be found there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from studio import models, templates
from studio.errors import ModelError
from studio.files import read_record

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
Message = Mapping[str, str]


class _Generation(Extension):
    """Transformers' own tag, which marks the answers; here only what is in it counts."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own attribute)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@dataclass(frozen=True)
class ChatTemplate:
    """The template's `source`, and the tokens that it may name: bos_token, eos_token, …"""

    source: str
    special: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Message], prompt: bool) -> str:
        """The text of a conversation; with `prompt` up to where the next answer begins.

        Raises:
            ModelError: the template is broken, or refuses these messages.
        """
        try:
            text: str = _compiled(self.source).render(
                messages=[dict(message) for message in messages], add_generation_prompt=prompt, **self.special
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise ModelError(f"the chat template refuses it: {error}") from error
        return text


def of(folder: Path, name: str | None = None) -> ChatTemplate:
    """The chat template of a model folder, or the named one with that model's tokens.

    Raises:
        ModelError: the model has none and none is named.
    """
    source = templates.text(name) if name else models.chat_template(folder)
    if not source:
        raise ModelError(
            f"{folder} has no chat template: name the one that it was trained with (template: "
            f"{', '.join(templates.names()[:4])}, ...)"
        )
    stated = read_record(folder / "tokenizer_config.json")
    return ChatTemplate(source, {key: _text(stated[key]) for key in SPECIAL if stated.get(key)})


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(source)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise TemplateError(message)
