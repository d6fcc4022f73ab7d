"""Rows as token ids with their labels, through the tokenizer's own chat template.

One function for the training, for the statistics and for the preview of what is trained: what the preview shows is
what is learnt. Where the template marks answers with {% generation %}, the marks decide. Elsewhere a conversation is
rendered up to and past each answer, and the difference is the answer. Some templates rewrite earlier turns (those of
reasoning models drop old thoughts): there each answer is learnt in the rendering that it is the last of, because that
is what the model is given when it has to answer, and a row becomes several sequences. Of a row whose tool calls,
observations or tools the template leaves out, nothing is trained (see `omission`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from studio.datasets.formats import Conversation, Feedback, Message, Preference, Row, Text, chat
from studio.datasets.masking import Masking, MaskView, Piece, Segment
from studio.errors import RowError
from studio.worker.omission import told
from studio.worker.places import Places, Span, Tokens
from studio.worker.rendering import Renderer, Turns

IGNORED = -100
THOUGHTS = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)
BATCH_ROWS = 256
Numbered = tuple[int, Conversation | Text]
Flaw = Literal["", "lost", "late", "silent", "alike"]  # why a row teaches nothing: each is a count of Figures


@dataclass(frozen=True, slots=True)
class Encoded:
    """Of row number `row`: `labels` equal `input_ids` where a token is trained and IGNORED elsewhere; `cut` fell off.

    `lost` says what of its tools the template leaves out; nothing of such a row is trained. `again`: a further sequence
    of the same row.
    """

    row: int
    input_ids: list[int]
    labels: list[int]
    cut: int
    lost: str = ""
    again: bool = False

    @property
    def trained(self) -> int:
        """Tokens that count in the loss."""
        return len(self.labels) - self.labels.count(IGNORED)

    @property
    def flaw(self) -> Flaw:
        """Why it teaches nothing."""
        if self.lost or not self.trained:
            return flaw_of(self.cut, self.lost)
        return ""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One sequence of row `number` before cutting, with what its tokens stand for; the rest as in `Encoded`."""

    number: int
    text: str
    places: Places
    ids: list[int]
    labels: list[int]
    lost: str
    again: bool

    @property
    def trained(self) -> int:
        """Tokens that count in the loss."""
        return self.trained_within(range(len(self.labels)))

    @property
    def first_trained(self) -> int:
        """The place, from 1, of the first such token; 0 without any."""
        return next((place for place, token in enumerate(self.labels, 1) if token != IGNORED), 0)

    @property
    def answer(self) -> range:
        """The places from the first such token to the last; at the end, and empty, without any."""
        end = len(self.labels)
        while end and self.labels[end - 1] == IGNORED:
            end -= 1
        return range(self.first_trained - 1, end) if end else range(len(self.labels), len(self.labels))

    def trained_within(self, kept: range) -> int:
        """Tokens that count in the loss when all but the places `kept` are cut off."""
        labels = self.labels[kept.start : kept.stop]
        return len(labels) - labels.count(IGNORED)


def encode(rows: Iterable[Numbered], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[Encoded]:
    """Encode numbered sequences, in order. The end-of-turn token of a trained answer is trained with it.

    Raises:
        ModelError: the tokenizer has no chat template.
        RowError: the template refuses a row, or its answers cannot be told from the rest.
    """
    keep = masking.cutoff_len
    for row in label(rows, tokenizer, masking):
        cut = max(0, len(row.ids) - keep)
        yield Encoded(row.number, row.ids[:keep], row.labels[:keep], cut, row.lost, row.again)


def kept_places(value: Row, parts: Sequence[Labelled], cutoff_len: int) -> range:
    """The places that are kept of each of the sequences that are made of a row.

    Most rows lose their end. Before a judged answer the prompt gives way, from its beginning and down to half of the
    room; only what is still too long of the answer loses its end. Two answers to one prompt are kept behind the same
    part of it.
    """
    if not isinstance(value, Preference | Feedback):
        return range(cutoff_len)
    begin, end = min(part.answer.start for part in parts), max(part.answer.stop for part in parts)
    first = max(0, min(end - cutoff_len, begin - cutoff_len // 2))
    return range(first, first + cutoff_len)


def flaw_of(cut: int, lost: str) -> Flaw:
    """Why a row without a token to learn has none."""
    if lost:
        return "lost"
    return "late" if cut else "silent"


def explain(number: int, value: Row, tokenizer: PreTrainedTokenizerBase, masking: Masking) -> MaskView:
    """Row `number` token by token, as `encode` makes it.

    Raises:
        RowError: the template leaves out something of the row's tools. Otherwise as `encode` does.
    """
    special = tokenizer.added_tokens_decoder.keys()
    named = []
    for name, sequence, mask in sequences(value, masking):
        parts = list(label([(number, sequence)], tokenizer, mask))
        for place, part in enumerate(parts, 1):
            if part.lost:
                raise RowError(number, told(part.lost))
            named.append((f"part {place} of {len(parts)}" if len(parts) > 1 else name, part))
    kept = kept_places(value, [part for _, part in named], masking.cutoff_len)
    return MaskView(tuple(Segment(name, tuple(_pieces(part, special, kept))) for name, part in named))


def sequences(value: Row, masking: Masking) -> list[tuple[str, Conversation | Text, Masking]]:
    """What a model is shown of a row, each with its name; of judged answers only the last one is learnt from."""
    answer_only = replace(masking, mask_history=True, train_on_prompt=False)
    if isinstance(value, Preference):
        answers = {"chosen": value.chosen, "rejected": value.rejected}
        return [
            (name, Conversation((*value.prompt, answer), value.tools), answer_only) for name, answer in answers.items()
        ]
    if isinstance(value, Feedback):
        return [("good" if value.good else "bad", Conversation(value.messages, value.tools), answer_only)]
    return [("", value, masking)]


def label(rows: Iterable[Numbered], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[Labelled]:
    """Numbered sequences in whole length, in order: one for each, or more where the template rewrites earlier turns.

    Raises as `encode` does.
    """
    renderer = Renderer(tokenizer)
    backend = tokenizer.backend_tokenizer  # without the wrapper, which makes Python lists of all that is not needed
    backend.no_truncation()
    backend.no_padding()
    tokens = Tokens(backend)
    rendered = (each for number, sequence in rows for each in _render(renderer, number, sequence, masking))
    # the tokenizer leaves Python to others while it works: one batch is rendered while it has another
    with ThreadPoolExecutor(1) as thread:
        waiting: tuple[list[_Rendered], Future[list[Places]]] | None = None
        while batch := list(islice(rendered, BATCH_ROWS)):
            begun = batch, thread.submit(tokens.of, [each.text for each in batch])
            if waiting:
                yield from _labelled(*waiting, masking)
            waiting = begun
        if waiting:
            yield from _labelled(*waiting, masking)


class _Rendered(NamedTuple):
    """The text of a sequence of row `number`, where what is learnt of it stands, and the rest as in `Encoded`."""

    number: int
    text: str
    spans: list[Span]
    lost: str = ""
    again: bool = False


def _render(renderer: Renderer, number: int, sequence: Conversation | Text, masking: Masking) -> Iterator[_Rendered]:
    if isinstance(sequence, Text):
        text = renderer.document(sequence.text)
        yield _Rendered(number, text, [(0, len(text))])
        return
    turns = Turns(renderer, number, shown(sequence.messages, masking), tools_of(number, sequence.tools))
    if lost := turns.lost():
        yield _Rendered(number, turns.text, [], lost)
        return
    for place, (text, spans) in enumerate(turns.sequences(masking)):
        yield _Rendered(number, text, [renderer.with_end(text, span) for span in spans], again=place > 0)


def shown(said: tuple[Message, ...], masking: Masking) -> list[dict[str, Any]]:
    """What a chat template is given of a conversation: with the default system prompt, and thoughts if it thinks."""
    messages = with_system(chat(said), masking.default_system)
    if masking.enable_thinking is False:
        for message in messages:
            if message["role"] == "assistant":
                message["content"] = THOUGHTS.sub("", message["content"])
    return messages


def with_system(messages: list[dict[str, Any]], default_system: str | None) -> list[dict[str, Any]]:
    """`messages` with the default system prompt, where they have none."""
    if not default_system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": default_system}, *messages]


def tools_of(number: int, tools: str | None) -> Any:
    """The tools of row `number`. Raises RowError where they are no JSON."""
    if not tools:
        return None
    try:
        return json.loads(tools)
    except ValueError as error:
        raise RowError(number, f"its tools are not valid JSON ({error})") from error


def _labelled(batch: Sequence[_Rendered], places: Future[list[Places]], masking: Masking) -> Iterator[Labelled]:
    for rendered, found in zip(batch, places.result(), strict=True):
        yield _label(rendered, found, masking)


def _label(rendered: _Rendered, places: Places, masking: Masking) -> Labelled:
    ids = places.ids
    labels = ids.copy() if masking.train_on_prompt and not rendered.lost else [IGNORED] * len(ids)
    for span in rendered.spans:
        first, last = places.tokens(*span)
        labels[first:last] = ids[first:last]
    labels[:1] = [IGNORED]  # nothing comes before the first token of a row that could predict it
    return Labelled(rendered.number, rendered.text, places, ids, labels, rendered.lost, rendered.again)


def _pieces(row: Labelled, special: Iterable[int], kept: range) -> Iterator[Piece]:
    """Characters go to the first token that has a part of them, those of no token to the token before."""
    offsets = row.places.spans()
    begins = [0, *(max(start, end_before) for (start, _), (_, end_before) in zip(offsets[1:], offsets, strict=False))]
    ends = [*begins[1:], len(row.text)]
    for place, (token, start, end) in enumerate(zip(row.ids, begins, ends, strict=True)):
        trained = row.labels[place] != IGNORED
        yield Piece(token, row.text[start:end], trained, token in special, cut=place not in kept)
