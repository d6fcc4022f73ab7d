"""What an export to Ollama will write, and whether the model's chat template can be said in Ollama's language."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio import templates
from studio.config.gguf import GgufConfig
from studio.config.ollama import OllamaConfig
from studio.errors import ConfigError, ModelError, Problem
from studio.exports import chat_template, gguf, go_template, modelfile
from studio.exports.chat_template import ChatTemplate
from studio.exports.go_template import Turns
from studio.exports.plan import Plan
from studio.runs import outputs
from studio.runs.store import Store

PROGRAM = "ollama"


@dataclass(frozen=True)
class Source:
    """The model to export, its chat template, and how that writes turns."""

    folder: Path
    chat: ChatTemplate
    turns: Turns


def plan(store: Store, config: OllamaConfig) -> Plan:
    """What will be written.

    Raises:
        ConfigError: everything that stands in its way.
    """
    written = gguf.plan(store, as_gguf(config))
    found = source(store, config)
    name = modelfile.model_name(config, gguf.name_of(store, as_gguf(config)))
    lines = (
        f"TEMPLATE is read off the {f'template {config.template}' if config.template else 'chat template'} and proven "
        "with three conversations, token by token.",
        f"Stops at {', '.join(map(repr, modelfile.stops(found.folder, found.chat, found.turns)))}; context "
        f"{modelfile.context(found.folder, config)} tokens.",
        _creation(config, name),
    )
    return Plan(
        f"{written.title} and a Modelfile for Ollama", written.bytes, lines,
        (*written.warnings, *_warnings(config, found)),
    )  # fmt: skip


def as_gguf(config: OllamaConfig) -> GgufConfig:
    """The conversion that is part of it."""
    return GgufConfig(model_name_or_path=config.model_name_or_path, outtype=(config.outtype,), run_name=config.run_name)


def source(store: Store, config: OllamaConfig) -> Source:
    """The model with a template that Ollama can have.

    Raises:
        ConfigError: there is no such model, or its template cannot be said in Ollama's language.
    """
    try:
        folder = outputs.model_of(store, config.model_name_or_path)
    except ModelError as error:
        raise ConfigError([Problem("model_name_or_path", str(error))]) from error
    try:
        chat = chat_template.of(folder, config.template)
        turns = go_template.learn(chat.render)
    except ModelError as error:
        raise ConfigError([Problem("template", f"{error}. {WAY_OUT}")]) from error
    return Source(folder, chat, turns)


def is_installed() -> bool:
    """Whether the program `ollama` is on this machine."""
    return shutil.which(PROGRAM) is not None


def _creation(config: OllamaConfig, name: str) -> str:
    if config.create and is_installed():
        return f"Ollama is installed here: it takes the model in as `{name}`."
    return f"To take it in: `{modelfile.commands(name)[0]}`, in the folder that is written."


def _warnings(config: OllamaConfig, found: Source) -> Iterator[str]:
    if config.default_system and not found.turns.takes_system:
        yield "The chat template takes no system prompt, so default_system would never be seen."
    if "tools" in found.chat.source:
        yield "Tools are not part of the TEMPLATE: llama.cpp's server takes them by the template in the GGUF (--jinja)."
    if "strftime_now" in found.chat.source:
        yield "The chat template writes the date of the day; the TEMPLATE keeps that of the export."
    if "<think>" in found.chat.source:
        yield "Thoughts of earlier answers stay in the prompt as Ollama sends them; the model's template drops them."


WAY_OUT = (
    "Set template to one of the formats that come with the studio if the model was trained with it "
    f"({', '.join(templates.names()[:6])}, ...), or export GGUF: the file carries the model's own template, which "
    "llama.cpp's server uses with --jinja"
)
