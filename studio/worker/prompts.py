"""Prompts that a model answers while it is trained: as tokens, up to where its answer begins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from studio.datasets.formats import Conversation, chat
from studio.datasets.masking import Masking
from studio.errors import ModelError, RowError
from studio.worker.encode import RENDERING, Flaw

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Prompted:
    """A conversation up to its last answer. `prompt` is its messages as JSON, `reference` the answer ("": none)."""

    prompt_ids: list[int]
    prompt: str
    reference: str
    cut: int
    lost: str = ""

    @property
    def flaw(self) -> Flaw:
        """Why it teaches nothing: of a prompt that is too long no part would do."""
        return "late" if self.cut else ""


def prompted(
    rows: Iterable[tuple[int, Conversation]], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> Iterator[Prompted]:
    """The prompts of numbered conversations, in order.

    Raises:
        ModelError: the tokenizer has no chat template.
        RowError: the template refuses a row.
    """
    for number, row in rows:
        *before, answer = row.messages
        messages = with_system(chat(tuple(before)), masking.default_system)
        try:
            ids = chat_ids(messages, tokenizer, json.loads(row.tools) if row.tools else None)
        except (TemplateError, TypeError, json.JSONDecodeError) as error:
            raise RowError(number, f"the model's chat template refuses it: {error}") from error
        cut = max(0, len(ids) - masking.cutoff_len)
        yield Prompted(ids, json.dumps(messages, ensure_ascii=False), answer.content, cut)


def with_system(messages: Messages, default_system: str | None) -> Messages:
    """`messages` with the default system prompt, where they have none."""
    if not default_system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": default_system}, *messages]


def chat_ids(messages: Messages, tokenizer: PreTrainedTokenizerBase, tools: Any = None) -> list[int]:
    """Messages as the tokenizer's template writes them, up to where the model's answer begins.

    Raises:
        ModelError: the tokenizer has no chat template.
        jinja2.TemplateError: the template refuses the messages.
    """
    try:
        with RENDERING:
            text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
    except ValueError as error:
        raise ModelError(f"the tokenizer cannot render a conversation: {error}") from error
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def text_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Plain text that the model is to go on with."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    begins = tokenizer.bos_token_id in tokenizer("")["input_ids"]
    return [tokenizer.bos_token_id, *ids] if begins else list(ids)
