"""The Modelfile that Ollama makes a model of: the file of weights, the template, where answers stop, parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from studio import models
from studio.config.ollama import OllamaConfig
from studio.exports.chat_template import ChatTemplate
from studio.exports.go_template import Turns
from studio.files import read_record

NAME = "Modelfile"
CONTEXT_TOKENS = 8192  # where nothing else is asked: 128 k tokens would take tens of gigabytes beside the weights
# what generation_config.json calls it -> what Ollama does
RECOMMENDED = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


@dataclass(frozen=True)
class Modelfile:
    """All that a Modelfile says; `stops` are texts at which an answer ends."""

    weights: str
    template: str
    system: str | None
    stops: tuple[str, ...]
    parameters: Mapping[str, float]

    def __str__(self) -> str:
        lines = [f"FROM ./{self.weights}", f'TEMPLATE """{self.template}"""']
        lines += [f'SYSTEM """{self.system}"""'] if self.system else []
        lines += [f"PARAMETER {key} {value}" for key, value in self.parameters.items()]
        # Ollama takes what is between quotes as it is, backslashes too
        lines += [f'PARAMETER stop """{text}"""' if '"' in text else f'PARAMETER stop "{text}"' for text in self.stops]
        return "\n".join(lines) + "\n"


def stops(folder: Path, chat: ChatTemplate, turns: Turns) -> tuple[str, ...]:
    """Texts that end an answer: the tokens between an answer and the next question, and how a question begins."""
    known = models.added_tokens(folder)
    between = turns.answer_end + turns.question
    begin = chat.special.get("bos_token")
    tokens = sorted((token for token in known if token in between and token != begin), key=between.index)
    whole = [token for token in tokens if not any(token != other and token in other for other in tokens)]
    opening = turns.question.strip()
    words = [opening] if opening and not any(token in opening for token in known) else []
    return tuple(dict.fromkeys([*whole, *_ends(folder, chat, known), *words]))


def parameters(folder: Path, config: OllamaConfig) -> dict[str, float]:
    """What `config` asks for, and else what the model recommends; the context in tokens."""
    stated = read_record(folder / "generation_config.json")
    found = {name: stated[key] for key, name in RECOMMENDED.items() if isinstance(stated.get(key), int | float)}
    asked = {"temperature": config.temperature, "top_p": config.top_p}
    found |= {key: value for key, value in asked.items() if value is not None}
    return {"num_ctx": context(folder, config), **found}


def context(folder: Path, config: OllamaConfig) -> int:
    """Tokens that a chat may have, never more than the model takes."""
    return models.within_context(folder, config.num_ctx or CONTEXT_TOKENS)


def model_name(config: OllamaConfig, name: str) -> str:
    """What Ollama is to call the model that is called `name` here: small letters, digits, and . _ - between them."""
    return config.ollama_name or re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"


def commands(name: str) -> tuple[str, ...]:
    """What to type in the folder of the Modelfile."""
    return f"ollama create {name} -f {NAME}", f"ollama run {name}"


def _ends(folder: Path, chat: ChatTemplate, known: Mapping[str, int]) -> Iterator[str]:
    if end := chat.special.get("eos_token"):
        yield end
    stated = read_record(folder / "generation_config.json").get("eos_token_id")
    ids = stated if isinstance(stated, list) else [stated]
    yield from (token for token, number in known.items() if number in ids)
