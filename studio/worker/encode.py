"""Rows as token ids with their labels, through the tokenizer's own chat template.

One function for the training, for the statistics and for the preview of what is trained: what the preview shows is
what is learnt. Where the template marks answers with {% generation %}, the marks decide. Elsewhere a conversation is
rendered up to and past each answer, and the difference is the answer; that needs a template which only ever appends,
and one that rewrites earlier turns (such as those that drop old thoughts) is refused rather than guessed at. Of a row
whose tool calls, observations or tools the template leaves out, nothing is trained (see `omission`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from studio.datasets.formats import Conversation, Feedback, Preference, Row, Text, chat
from studio.datasets.masking import Masking, MaskView, Piece, Segment
from studio.errors import ModelError, RowError
from studio.worker.omission import left_out, told
from studio.worker.places import Places, Span, Tokens

IGNORED = -100
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
BATCH_ROWS = 256
RENDERING = threading.Lock()  # a compiled template notes its marks for one caller; streamed sets are read by threads
Numbered = tuple[int, Conversation | Text]
Flaw = Literal["", "lost", "late", "silent", "alike"]  # why a row teaches nothing: each is a count of Figures


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row: `labels` equal `input_ids` where a token is trained and IGNORED elsewhere; `cut` tokens fell off.

    `lost` says what of its tools the template leaves out; nothing of such a row is trained.
    """

    input_ids: list[int]
    labels: list[int]
    cut: int
    lost: str = ""

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
    """One sequence before cutting, with what its tokens stand for; `lost` as in `Encoded`."""

    text: str
    places: Places
    ids: list[int]
    labels: list[int]
    lost: str

    @property
    def trained(self) -> int:
        """Tokens that count in the loss."""
        return self.trained_within(len(self.labels))

    @property
    def first_trained(self) -> int:
        """The place, from 1, of the first such token; 0 without any."""
        return next((place for place, token in enumerate(self.labels, 1) if token != IGNORED), 0)

    def trained_within(self, cutoff_len: int) -> int:
        """Tokens that count in the loss when the row is cut."""
        kept = self.labels[:cutoff_len]
        return len(kept) - kept.count(IGNORED)


def encode(rows: Iterable[Numbered], tokenizer: PreTrainedTokenizerBase, masking: Masking) -> Iterator[Encoded]:
    """Encode numbered sequences, in order. The end-of-turn token of a trained answer is trained with it.

    Raises:
        ModelError: the tokenizer has no chat template.
        RowError: the template refuses a row, or its answers cannot be told from the rest.
    """
    keep = masking.cutoff_len
    for row in label(rows, tokenizer, masking):
        yield Encoded(row.ids[:keep], row.labels[:keep], cut=max(0, len(row.ids) - keep), lost=row.lost)


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
    segments = []
    for name, sequence, mask in sequences(value, masking):
        [labelled] = label([(number, sequence)], tokenizer, mask)
        if labelled.lost:
            raise RowError(number, told(labelled.lost))
        segments.append(Segment(name, tuple(_pieces(labelled, special, mask.cutoff_len))))
    return MaskView(tuple(segments))


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
    """Numbered sequences in whole length, in order. Raises as `encode` does."""
    renderer = _Renderer(tokenizer)
    backend = tokenizer.backend_tokenizer  # without the wrapper, which makes Python lists of all that is not needed
    backend.no_truncation()
    backend.no_padding()
    tokens = Tokens(backend)
    rendered = (_render(renderer, number, sequence, masking) for number, sequence in rows)
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
    """The text of a sequence, where its answers are, and what the template has left out of its tools."""

    text: str
    spans: list[Span]
    lost: str = ""


class _Renderer:
    """One tokenizer's chat template, ready to be applied."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known = tokenizer.special_tokens_map
        self._templates: dict[bool, tuple[str, bool]] = {}
        self._endings = tuple(filter(None, (str(token) for token in tokenizer.added_tokens_decoder.values())))
        self._specials = re.compile("|".join(map(re.escape, sorted(self._endings, key=len, reverse=True))) or "(?!)")

    def render(
        self, number: int, messages: list[dict[str, Any]], tools: Any, prompt: bool = False
    ) -> tuple[str, list[Span] | None]:
        """The text, and the answers that the template marks; None where it marks none at all."""
        try:
            template, marked = self._template(tools)
            with RENDERING:
                texts, spans = render_jinja_template(
                    [messages],
                    tools=tools,
                    chat_template=template,
                    return_assistant_tokens_mask=marked,
                    add_generation_prompt=prompt,
                    **self._known,
                )
        except (TemplateError, TypeError) as error:  # one that wants arguments as text cannot join an object to it
            raise RowError(number, f"the model's chat template refuses it: {error}") from error
        except ValueError as error:
            raise ModelError(f"the tokenizer cannot render a conversation: {error}") from error
        return texts[0], [(start, end) for start, end in spans[0]] if marked else None

    def document(self, text: str) -> str:
        """Plain text between the tokens that begin and end a document."""
        begins = self._tokenizer.bos_token_id in self._tokenizer("")["input_ids"]
        return (self._tokenizer.bos_token if begins else "") + text + (self._tokenizer.eos_token or "")

    def with_end(self, text: str, span: Span) -> Span:
        """`span` with the end-of-turn token behind it, and without the white space behind that."""
        start, end = span
        bare = text[start:end].rstrip()
        if bare.endswith(self._endings):
            return start, start + len(bare)
        after = self._specials.match(text, end)
        return start, after.end() if after else end

    def _template(self, tools: Any) -> tuple[str, bool]:
        """The template for rows with or without tools, and whether it marks answers."""
        key = bool(tools)
        if key not in self._templates:
            template = self._tokenizer.get_chat_template(tools=tools)
            self._templates[key] = template, GENERATION.search(template) is not None
        return self._templates[key]


def _render(renderer: _Renderer, number: int, sequence: Conversation | Text, masking: Masking) -> _Rendered:
    if isinstance(sequence, Text):
        text = renderer.document(sequence.text)
        return _Rendered(text, [(0, len(text))])
    messages = chat(sequence.messages)
    if masking.default_system and messages and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": masking.default_system})
    tools = _tools(number, sequence.tools)
    text, spans = renderer.render(number, messages, tools)
    if lost := _lost(renderer, number, messages, tools):
        return _Rendered(text, [], lost)
    if spans is None:
        spans = list(_unmarked(renderer, number, messages, tools, text, last_only=masking.mask_history))
    spans = spans[-1:] if masking.mask_history else spans
    return _Rendered(text, [renderer.with_end(text, span) for span in spans])


def _lost(renderer: _Renderer, number: int, messages: list[dict[str, Any]], tools: Any) -> str:
    try:
        return left_out(messages, tools, lambda marked, kit: renderer.render(number, marked, kit)[0])
    except RowError:  # it took the row itself: one that objects to marks looks at what they stand for
        return ""


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
    return Labelled(rendered.text, places, ids, labels, rendered.lost)


def _pieces(row: Labelled, special: Iterable[int], cutoff_len: int) -> Iterator[Piece]:
    """Characters go to the first token that has a part of them, those of no token to the token before."""
    offsets = row.places.spans()
    begins = [0, *(max(start, end_before) for (start, _), (_, end_before) in zip(offsets[1:], offsets, strict=False))]
    ends = [*begins[1:], len(row.text)]
    for place, (token, start, end) in enumerate(zip(row.ids, begins, ends, strict=True)):
        trained = row.labels[place] != IGNORED
        yield Piece(token, row.text[start:end], trained, token in special, cut=place >= cutoff_len)
