"""Conversations as token ids with their labels, through the tokenizer's own chat template.

One function for the training and for the preview of what is trained: what the preview shows is what is learnt.
Where the template marks answers with {% generation %}, the marks decide. Elsewhere a conversation is rendered up
to and past each answer, and the difference is the answer; that needs a template which only ever appends, and one
that rewrites earlier turns (such as those that drop old thoughts) is refused rather than guessed at.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from studio.datasets.formats import Conversation, chat
from studio.errors import ModelError, RowError

IGNORED = -100
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
Span = tuple[int, int]


@dataclass(frozen=True)
class Masking:
    """What of a conversation is kept and trained. `cutoff_len` in tokens."""

    cutoff_len: int
    default_system: str | None = None
    train_on_prompt: bool = False
    mask_history: bool = False


@dataclass(frozen=True)
class Encoded:
    """One row: `labels` equal `input_ids` where a token is trained and IGNORED elsewhere; `cut` tokens fell off."""

    input_ids: list[int]
    labels: list[int]
    cut: int

    @property
    def trained(self) -> int:
        """Tokens that count in the loss."""
        return len(self.labels) - self.labels.count(IGNORED)


def encode(
    rows: Sequence[tuple[int, Conversation]], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> list[Encoded]:
    """Encode numbered conversations, in order. The end-of-turn token of a trained answer is trained with it.

    Raises:
        ModelError: the tokenizer has no chat template.
        RowError: the template refuses a row, or its answers cannot be told from the rest.
    """
    renderer = _Renderer(tokenizer)
    texts, answers = [], []
    for number, conversation in rows:
        text, spans = _render(renderer, number, conversation, masking)
        texts.append(text)
        answers.append(spans)
    if not texts:
        return []
    tokens = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
    columns = zip(tokens["input_ids"], tokens["offset_mapping"], answers, strict=True)
    return [_label(ids, offsets, spans, masking) for ids, offsets, spans in columns]


class _Renderer:
    """One tokenizer's chat template, ready to be applied."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        added = (str(token) for token in tokenizer.added_tokens_decoder.values())
        self._specials = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or "(?!)")

    def render(
        self, number: int, messages: list[dict[str, Any]], tools: Any, prompt: bool = False
    ) -> tuple[str, list[Span] | None]:
        """The text, and the answers that the template marks; None where it marks none at all."""
        try:
            template = self._tokenizer.get_chat_template(tools=tools)
            marked = GENERATION.search(template) is not None
            texts, spans = render_jinja_template(
                [messages],
                tools=tools,
                chat_template=template,
                return_assistant_tokens_mask=marked,
                add_generation_prompt=prompt,
                **self._tokenizer.special_tokens_map,
            )
        except TemplateError as error:
            raise RowError(number, f"the model's chat template refuses it: {error}") from error
        except ValueError as error:
            raise ModelError(f"the tokenizer cannot render a conversation: {error}") from error
        return texts[0], [(start, end) for start, end in spans[0]] if marked else None

    def with_end(self, text: str, span: Span) -> Span:
        """`span` with the end-of-turn token behind it, and without the white space behind that."""
        start, end = span
        bare = text[start:end].rstrip()
        if self._ends_special(bare):
            return start, start + len(bare)
        after = self._specials.match(text, end)
        return start, after.end() if after else end

    def _ends_special(self, text: str) -> bool:
        last = max((match.end() for match in self._specials.finditer(text)), default=-1)
        return last == len(text)


def _render(renderer: _Renderer, number: int, conversation: Conversation, masking: Masking) -> tuple[str, list[Span]]:
    messages = chat(conversation.messages)
    if masking.default_system and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": masking.default_system})
    tools = _tools(number, conversation.tools)
    text, spans = renderer.render(number, messages, tools)
    if spans is None:
        spans = list(_unmarked(renderer, number, messages, tools, text, last_only=masking.mask_history))
    spans = spans[-1:] if masking.mask_history else spans
    return text, [renderer.with_end(text, span) for span in spans]


def _tools(number: int, tools: str | None) -> Any:
    if not tools:
        return None
    try:
        return json.loads(tools)
    except ValueError as error:
        raise RowError(number, f"its tools are not valid JSON ({error})") from error


def _unmarked(
    renderer: _Renderer, number: int, messages: list[dict[str, Any]], tools: Any, text: str, last_only: bool
) -> Iterator[Span]:
    """Answers in `text`, found by rendering the conversation up to each answer and past it."""
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    for index in turns[-1:] if last_only else turns:
        before, _ = renderer.render(number, messages[:index], tools, prompt=True)
        through, _ = renderer.render(number, messages[: index + 1], tools)
        if not (text.startswith(through) and through.startswith(before)):
            raise RowError(
                number,
                f"answer {turns.index(index) + 1} cannot be told from the rest, because the model's chat template "
                "rewrites earlier turns; set mask_history: true to train on the last answer only",
            )
        yield len(before), len(through)


def _label(ids: list[int], offsets: Sequence[Span], spans: Iterable[Span], masking: Masking) -> Encoded:
    labels = list(ids) if masking.train_on_prompt else [IGNORED] * len(ids)
    starts = [start for start, _ in offsets]
    ends = [end for _, end in offsets]
    for start, end in spans:
        # white space tokens may have empty offsets, so tokens are taken by order rather than by containment
        first, last = bisect_right(ends, start), bisect_left(starts, end)
        labels[first:last] = ids[first:last]
    labels[:1] = [IGNORED]  # nothing comes before the first token of a row that could predict it
    keep = masking.cutoff_len
    return Encoded(ids[:keep], labels[:keep], cut=max(0, len(ids) - keep))
