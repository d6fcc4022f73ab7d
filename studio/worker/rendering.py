"""Conversations as a chat template writes them, and where in the texts the answers stand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from studio.datasets.masking import Masking
from studio.errors import ModelError, RowError
from studio.worker.omission import left_out
from studio.worker.places import Span

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
RENDERING = threading.Lock()  # a compiled template notes its marks for one caller; streamed sets are read by threads


class Renderer:
    """One tokenizer's chat template, ready to be applied."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known = tokenizer.special_tokens_map
        self._templates: dict[bool, tuple[str, int]] = {}
        self._rewriting: dict[bool, bool] = {}
        self._endings = tuple(filter(None, (str(token) for token in tokenizer.added_tokens_decoder.values())))
        self._specials = re.compile("|".join(map(re.escape, sorted(self._endings, key=len, reverse=True))) or "(?!)")

    def render(
        self, number: int, messages: list[dict[str, Any]], tools: Any, prompt: bool = False
    ) -> tuple[str, list[Span] | None]:
        """The text, and the answers that the template marks; None where it marks none at all."""
        try:
            template, marks = self._template(tools)
            with RENDERING:
                texts, spans = render_jinja_template(
                    [messages],
                    tools=tools,
                    chat_template=template,
                    return_assistant_tokens_mask=marks > 0,
                    add_generation_prompt=prompt,
                    **self._known,
                )
        except (TemplateError, TypeError) as error:  # one that wants arguments as text cannot join an object to it
            raise RowError(number, f"the model's chat template refuses it: {error}") from error
        except ValueError as error:
            raise ModelError(f"the tokenizer cannot render a conversation: {error}") from error
        return texts[0], [(start, end) for start, end in spans[0]] if marks else None

    def document(self, text: str) -> str:
        """Plain text between the tokens that begin and end a document."""
        begins = self._tokenizer.bos_token_id in self._tokenizer("")["input_ids"]
        # a named template may have given the tokenizer the end of its answers; a document keeps its own
        end = self._tokenizer.init_kwargs.get("eos_token") or self._tokenizer.eos_token or ""
        return (self._tokenizer.bos_token if begins else "") + text + str(end)

    def with_end(self, text: str, span: Span) -> Span:
        """`span` with the end-of-turn token behind it, and without the white space behind that."""
        start, end = span
        bare = text[start:end].rstrip()
        if bare.endswith(self._endings):
            return start, start + len(bare)
        after = self._specials.match(text, end)
        return start, after.end() if after else end

    def stem(self, text: str) -> str:
        """`text` without the token that some templates write at its very end, behind the one that ends the answer."""
        bare = text.removesuffix(self._tokenizer.eos_token or "")
        return bare if bare.rstrip().endswith(self._endings) else text

    def rewrites(self, tools: Any) -> bool:
        """Whether the template writes an answer otherwise once the conversation has gone on."""
        key = bool(tools)
        if key not in self._rewriting:
            self._rewriting[key] = any(self._is_rewritten(answer, tools) for answer in ("<think>x</think>\n\ny", "y"))
        return self._rewriting[key]

    def _is_rewritten(self, answer: str, tools: Any) -> bool:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}]
        try:
            part, whole = (self.render(0, messages, tools)[0] for messages in (turns, turns * 2))
        except RowError:
            return False
        return not whole.startswith(self.stem(part))

    def marks_once(self, tools: Any) -> bool:
        """Whether the template marks answers in one place, so never one answer in several parts."""
        return self._template(tools)[1] == 1

    def _template(self, tools: Any) -> tuple[str, int]:
        """The template for rows with or without tools, and in how many places it marks answers."""
        key = bool(tools)
        if key not in self._templates:
            if not self._tokenizer.chat_template:
                raise ModelError(
                    f"{self._tokenizer.name_or_path} has no chat template: name one, as template: chatml does"
                )
            template = self._tokenizer.get_chat_template(tools=tools)
            self._templates[key] = template, len(GENERATION.findall(template))
        return self._templates[key]


class Turns:
    """One conversation as a template writes it, in whole and up to each answer."""

    def __init__(self, renderer: Renderer, number: int, messages: list[dict[str, Any]], tools: Any) -> None:
        self._renderer, self._number, self._messages, self._tools = renderer, number, messages, tools
        self._answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        self.text, self._marks = renderer.render(number, messages, tools)

    def lost(self) -> str:
        """What of its tools the template leaves out."""
        try:
            return left_out(
                self._messages, self._tools, lambda *marked: self._renderer.render(self._number, *marked)[0]
            )
        except RowError:  # it took the row itself: one that objects to marks looks at what they stand for
            return ""

    def sequences(self, masking: Masking) -> Iterator[tuple[str, list[Span]]]:
        """Texts to learn from, and where in them the answers stand."""
        if masking.train_on_prompt or not self._answers:
            yield self.text, []
        elif masking.mask_history:
            yield self.text, self._answer(self._answers[-1])[1]
        elif self._marks is not None and not self._renderer.rewrites(self._tools):
            yield self.text, self._marks
        else:
            yield from self._apart()

    def _apart(self) -> Iterator[tuple[str, list[Span]]]:
        """Each answer in its own rendering; those up to which nothing was rewritten share one."""
        text, spans = "", list[Span]()
        for index in self._answers:
            longer, found = self._answer(index)
            stem = text if longer.startswith(text) else self._renderer.stem(text)
            if not longer.startswith(stem):
                yield text, spans
                spans = []
            spans = [*((start, min(end, len(stem))) for start, end in spans), *found]
            text = longer
        yield text, spans

    def _answer(self, index: int) -> tuple[str, list[Span]]:
        """The conversation up to and with an answer, and where that stands in it."""
        through, marks = self._render(self._messages[: index + 1])
        if marks is not None and self._renderer.marks_once(self._tools):
            return through, marks[-1:]
        before, _ = self._render(self._messages[:index], prompt=True)
        if marks is not None:
            return through, [span for span in marks if span[1] > len(before)]
        if not through.startswith(before):
            tail = next(before[n:] for n in range(len(before)) if before[n] != through[n : n + 1])
            raise RowError(
                self._number,
                f"answer {self._answers.index(index) + 1} cannot be told from the question: the model's chat template "
                f"asks for answers that begin with {tail!r}, but writes this one without it; choose another template "
                "by name",
            )
        return through, [(len(before), len(through))]

    def _render(self, messages: list[dict[str, Any]], prompt: bool = False) -> tuple[str, list[Span] | None]:
        if len(messages) == len(self._messages) and not prompt:
            return self.text, self._marks
        return self._renderer.render(self._number, messages, self._tools, prompt)
