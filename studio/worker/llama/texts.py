"""What tokenizers and answers are compared on: conversations as a model is given them, and text that tells apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = list[dict[str, str]]

CONVERSATIONS: tuple[Turns, ...] = (
    [{"role": "user", "content": "Who are you?"}],
    [
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": "Write a line of Python that prints 1234567."},
        {"role": "assistant", "content": "print(1234567)  # that's it\n\tIt'll print the number."},
        {"role": "user", "content": "  And 3.14 + 2,718.28?\n\nShow both steps."},
    ],
    [
        {"role": "user", "content": "你是谁？请用中文回答：2026年1月1日是星期几？😀"},
        {"role": "assistant", "content": "我是一个助手。"},
        {"role": "user", "content": "Très bien — und jetzt auf Deutsch: Straße, Äpfel, naïve café…"},
    ],
)
PROMPTS = ("Who are you?", "你是谁？", "What is 3 + 4?", "Tell me a short story.")
ANSWER_TOKENS = 24
WORDS_MAX = 5000
# pre-tokenizers differ in digits, contractions, case, runs of blanks and newlines, marks, scripts
CORPUS = (
    "I've you'll He'S THEY'RE don't I'M we'd",
    "1 12 123 1234 12345 123456 3.14 1,000,000 0x1F ४५६",
    "a  b   c    d\t\te\n\nf\r\ng \n h\n\n\n  i",
    "CamelCase camelCase HTTPServer iPhone XMLHttpRequest",
    "!!! ?!? ... ---- ==== :// ($x) [y] {z} <tag/> #hash @name a_b c-d `code`",
    "def f(x):\n    return x ** 2  # square\n",
    "中文和English混排，标点。「引号」！日本語のテスト、カタカナ。한국어 문장입니다.",
    "Привет, мир! Ἀρχή עברית العربية हिन्दी ไทย",
    "😀🚀🤷‍♂️ ©®™ 𝔘𝔫𝔦 ½ ² ﬁ",
    "naïve Ångström Straße Ünïcödé œuvre",
    " leading and trailing ",
    "http://example.org/a?b=c&d=1#e mail@example.org /usr/bin/env",
)
MARK = re.compile(r"\{%(?P<before>[-+]?)\s*(?P<end>end)?generation\s*(?P<after>[-+]?)%\}")


@dataclass(frozen=True)
class Sample:
    """A text and its tokens by Transformers; whether it is a rendered conversation."""

    text: str
    ids: tuple[int, ...]
    is_conversation: bool


def samples(tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
    """Everything that the tokens are compared on; a model without a template is given the bare words."""
    rendered = [rendering(tokenizer, turns) for turns in CONVERSATIONS]
    return [_sample(tokenizer, text, True) for text in rendered] + [_sample(tokenizer, text, False) for text in CORPUS]


def words(tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
    """Up to `WORDS_MAX` texts of single tokens, spread over the vocabulary: what a wrong pre-tokenizer takes apart."""
    step = 1 + len(tokenizer) // WORDS_MAX
    found = (tokenizer.decode([token]) for token in range(0, len(tokenizer), step))
    return [_sample(tokenizer, text, False) for text in found if text and "\ufffd" not in text]


def rendering(tokenizer: PreTrainedTokenizerBase, turns: Turns) -> str:
    """The text that a model is given for a conversation. Templates that refuse a system prompt get none.

    Raises:
        ModelError: the template cannot be used at all.
    """
    if not tokenizer.chat_template:
        return "\n".join(turn["content"] for turn in turns)
    from jinja2.exceptions import TemplateError

    without = [turn for turn in turns if turn["role"] != "system"]
    for tried in (turns, without):
        try:
            return str(tokenizer.apply_chat_template(tried, add_generation_prompt=True, tokenize=False))
        except TemplateError as error:
            why = error
    raise ModelError(f"the chat template cannot be rendered ({why}): mend it, or give the model another one")


def prompts(tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Token ids of what is asked."""
    for text in PROMPTS:
        asked = rendering(tokenizer, [{"role": "user", "content": text}])
        yield list(tokenizer(asked, add_special_tokens=not tokenizer.chat_template).input_ids)


def unmarked(template: str) -> str:
    """A template without Transformers' {% generation %}, which other Jinjas do not know; it renders the same."""
    return MARK.sub(_condition, template)


def _condition(mark: re.Match[str]) -> str:
    word = "endif" if mark["end"] else "if true"
    return f"{{%{mark['before']} {word} {mark['after']}%}}"


def _sample(tokenizer: PreTrainedTokenizerBase, text: str, is_conversation: bool) -> Sample:
    return Sample(text, tuple(tokenizer(text, add_special_tokens=False).input_ids), is_conversation)
