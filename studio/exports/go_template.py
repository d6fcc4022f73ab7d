"""A chat template as Ollama's TEMPLATE, in Go's template language.

It is not translated but read off: conversations with known words in them are rendered, and what stands between the
words is what the template writes there. That covers every family whose text depends on the order of the turns alone,
named or not, and says of the others why they cannot be written so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from studio.errors import ModelError
from studio.exports.chat_template import Message

Place = Literal["", "first", "last"]
Render = Callable[[Sequence[Message], bool], str]

SYSTEM = "Some-System-Prompt"
TURNS = ("Some-Question", "Some-Answer", "Another-Question", "Another-Answer", "Last-Question")
LAST = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"


@dataclass(frozen=True)
class Turns:
    """What a template writes around the contents of messages.

    A conversation begins with `start`, or where a system prompt is given with it between `before_system` and
    `after_system`; if its `place` is not "first" but "last", it stands in the last question, with `after_system`
    behind it, and if that is "" there is no place for one. Then come questions between `question` and
    `question_end`, answers between `answer` and `answer_end`; behind the last question stands `prompt`. An answer at
    the very end stays open, as Ollama goes on with it.
    """

    start: str
    before_system: str
    after_system: str
    place: Place
    question: str
    question_end: str
    answer: str
    answer_end: str
    prompt: str

    @property
    def takes_system(self) -> bool:
        """Whether there is a place for a system prompt."""
        return bool(self.place)

    def render(self, messages: Sequence[Message]) -> str:
        """What Go makes of `text()`, for a conversation of alternating turns."""
        system = next((message["content"] for message in messages if message["role"] == "system"), "")
        leads, closes = system and self.place == "first", system and self.place == "last"
        parts = [self.before_system, system, self.after_system] if leads else [self.start]
        turns = [message for message in messages if message["role"] != "system"]
        for number, message in enumerate(turns, start=1):
            is_last = number == len(turns)
            if message["role"] == "user":
                within = system + self.after_system if closes and is_last else ""
                parts += [self.question, within, message["content"], self.question_end, self.prompt * is_last]
            else:
                parts += [self.answer, message["content"], self.answer_end * (not is_last)]
        return "".join(parts)

    def text(self) -> str:
        """The TEMPLATE. Nothing in it trims, so every line break in it is one that the model sees."""
        start, within = _literal(self.start), ""
        if self.place == "last":
            within = f"{{{{ if and $last $.System }}}}{{{{ $.System }}}}{_literal(self.after_system)}{{{{ end }}}}"
        elif self.place == "first":
            system = f"{_literal(self.before_system)}{{{{ .System }}}}{_literal(self.after_system)}"
            start = f"{{{{ if .System }}}}{system}{f'{{{{ else }}}}{start}' if start else ''}{{{{ end }}}}"
        question = f"{_literal(self.question)}{within}{{{{ .Content }}}}{_literal(self.question_end)}"
        prompt = f"{{{{ if $last }}}}{_literal(self.prompt)}{{{{ end }}}}" if self.prompt else ""
        end = f"{{{{ if not $last }}}}{_literal(self.answer_end)}{{{{ end }}}}" if self.answer_end else ""
        return (
            f"{start}{{{{ range $i, $_ := .Messages }}}}{LAST}"
            f'{{{{ if eq .Role "user" }}}}{question}{prompt}'
            f'{{{{ else if eq .Role "assistant" }}}}{_literal(self.answer)}{{{{ .Content }}}}{end}'
            "{{ end }}{{ end }}"
        )

    def without_first(self, token: str) -> Turns:
        """The same without `token` at the very beginning, where llama.cpp puts it by itself."""
        turns = self._joined() if not self.start.startswith(token) and self.question.startswith(token) else self
        return replace(
            turns,
            start=turns.start.removeprefix(token),
            before_system=turns.before_system.removeprefix(token),
        )

    def begins_with(self, token: str) -> bool:
        """Whether every conversation begins with `token`."""
        same = self.place != "first" or self.before_system.startswith(token)
        return same and (self.start + self.question).startswith(token)

    def _joined(self) -> Turns:
        """The same text with the opening of a question written where the turn before it ends."""
        return replace(
            self,
            start=self.start + self.question,
            after_system=self.after_system + self.question * (self.place == "first"),
            answer_end=self.answer_end + self.question,
            question="",
        )


def learn(render: Render) -> Turns:
    """How a template writes turns. `render(messages, prompt)` applies it.

    Raises:
        ModelError: its text depends on more than the order of the turns, in words.
    """
    start, after_question, after_answer, prompt = _between(render)
    place, before_system, after_system = _system(render)
    question_end, answer_end = _tail(render, TURNS[:1]), _tail(render, TURNS[:2])
    if not (after_question.startswith(question_end) and prompt.startswith(question_end)):
        question_end = ""
    question = after_answer.removeprefix(answer_end)
    openings = [start, after_answer, *([after_system] if place == "first" else [])]
    if not (after_answer.startswith(answer_end) and all(each.endswith(question) for each in openings)):
        question, answer_end = "", after_answer  # the first question opens otherwise: each turn opens the next
    return Turns(
        start=start.removesuffix(question),
        before_system=before_system,
        after_system=after_system.removesuffix(question) if place == "first" else after_system,
        place=place,
        question=question,
        question_end=question_end,
        answer=after_question.removeprefix(question_end),
        answer_end=answer_end,
        prompt=prompt.removeprefix(question_end),
    )


def _between(render: Render) -> tuple[str, str, str, str]:
    """What stands before the first question, behind a question, behind an answer, and behind the last question."""
    start, prompt = _pieces(render, TURNS[:1])
    _, after_question, after_answer, _ = _pieces(render, TURNS[:3])
    for turns in (TURNS[:3], TURNS):
        wanted = [start, *[after_question, after_answer] * (len(turns) // 2), prompt]
        if _pieces(render, turns) != wanted:
            raise ModelError(
                "the chat template writes a turn otherwise when more follow: Ollama's TEMPLATE cannot say that exactly"
            )
    return start, after_question, after_answer, prompt


def _system(render: Render) -> tuple[Place, str, str]:
    """Where a system prompt stands, and what before and behind it.

    Raises:
        ModelError: neither at the beginning nor in the last question.
    """
    asked = _messages(TURNS[:1], SYSTEM)
    try:
        takes = SYSTEM in render(asked, True)
    except ModelError:
        takes = False
    if not takes:
        return "", "", ""
    before, after, prompt = _pieces(render, TURNS[:1], SYSTEM)
    start, *middle, _ = _pieces(render, TURNS[:3])
    longer = render(_messages(TURNS[:3], SYSTEM), True)
    if longer == _woven([before, after, *middle], [SYSTEM, *TURNS[:3]]) + prompt:
        return "first", before, after
    if before == start and longer == _woven([start, *middle, after], [*TURNS[:2], SYSTEM, TURNS[2]]) + prompt:
        return "last", "", after
    raise ModelError(
        "the chat template moves the system prompt as the conversation goes on: Ollama's TEMPLATE cannot do that"
    )


def _woven(pieces: Sequence[str], contents: Sequence[str]) -> str:
    return "".join(piece + content for piece, content in zip(pieces, contents, strict=True))


def _pieces(render: Render, turns: Sequence[str], system: str | None = None) -> list[str]:
    """The text around the contents of a conversation, up to where the next answer begins.

    Raises:
        ModelError: a content is not there exactly once, in its place.
    """
    text = render(_messages(turns, system), True)
    pieces: list[str] = []
    for content in [system, *turns] if system else turns:
        before, found, text = text.partition(content)
        if not found or content in text:
            raise ModelError("the chat template leaves out a message, writes one twice, or in another order")
        pieces.append(before)
    return [*pieces, text]


def _tail(render: Render, turns: Sequence[str]) -> str:
    """What is written behind the last content where no answer is asked for."""
    return render(_messages(turns, None), False).rpartition(turns[-1])[2]


def _messages(turns: Sequence[str], system: str | None) -> list[Message]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, *({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns))]


def _literal(text: str) -> str:
    """Text that Go writes as it is."""
    return text if "{{" not in text and '"""' not in text else f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
