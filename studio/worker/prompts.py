"""Prompts that a model answers while it is trained: as tokens, up to where its answer begins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from studio.datasets.formats import Conversation
from studio.datasets.masking import Masking
from studio.worker.encode import Flaw, flaw_of, shown, tools_of, with_system
from studio.worker.rendering import Renderer, Turns


@dataclass(frozen=True, slots=True)
class Prompted:
    """A conversation up to its last answer. `prompt` is its messages as JSON, `reference` the answer ("": none)."""

    row: int
    prompt_ids: list[int]
    prompt: str
    reference: str
    cut: int
    lost: str = ""

    @property
    def flaw(self) -> Flaw:
        """Why it teaches nothing: of a prompt that is too long no part would do."""
        return flaw_of(self.cut, self.lost) if self.cut or self.lost else ""


def prompted(
    rows: Iterable[tuple[int, Conversation]], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> Iterator[Prompted]:
    """The prompts of numbered conversations, in order.

    Raises:
        ModelError: the tokenizer has no chat template.
        RowError: the template refuses a row.
    """
    renderer = Renderer(tokenizer)
    for number, row in rows:
        *before, answer = row.messages
        messages, tools = shown(tuple(before), masking), tools_of(number, row.tools)
        text, _ = renderer.render(number, messages, tools, prompt=True)
        ids = tokens(text, tokenizer)
        lost = Turns(renderer, number, messages, tools).lost()
        cut = max(0, len(ids) - masking.cutoff_len)
        yield Prompted(number, ids, json.dumps(messages, ensure_ascii=False), answer.content, cut, lost)


def question(text: str, tokenizer: PreTrainedTokenizerBase, default_system: str | None) -> list[int]:
    """What is asked in `text`, up to where the answer begins. Raises ModelError as `prompted` does."""
    messages = with_system([{"role": "user", "content": text}], default_system)
    rendered, _ = Renderer(tokenizer).render(0, messages, None, prompt=True)
    return tokens(rendered, tokenizer)


def beginning(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Plain text that the model is to go on with."""
    begins = tokenizer.bos_token_id in tokenizer("")["input_ids"]
    return [tokenizer.bos_token_id, *tokens(text, tokenizer)] if begins else tokens(text, tokenizer)


def tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Text as it stands, special tokens included."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
