"""What a question is, and which questions are never trained."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, Lang] = ("en", "zh")
Slots = Mapping[str, str]
Wordings = Mapping[Lang, tuple[str, ...]]

# heads of questions for the wordings below; `(a|b|)` stands for each of its choices in turn
WHAT = "(What is|What's|Tell me|Please tell me|Can you tell me|Do you know|I want to know|Name|Say|Give me)"
TELL = "(Tell me|Please tell me|Can you tell me|Could you tell me|Do you know|I want to know|Say)"
WRITE = "(Write|Give|Name|Say|Tell me)"
ASK_ZH = "(|请问|你知道|请告诉我|告诉我|请说说|我想知道|你能告诉我|能不能告诉我)"
WRITE_ZH = "(写出|请写出|说出|请说出|给出)"


@cache
def expand(wordings: tuple[str, ...], quoted: str | None = None) -> tuple[str, ...]:
    """All readings of wordings with `(a|b|)` choices, in order; before them, once more with `quoted` in quotes."""
    found = tuple(reading for wording in wordings for reading in readings(wording))
    if quoted is None:
        return found
    return tuple(text.replace(quoted, f'"{quoted}"') for text in found[:-1] if f"“{quoted}”" not in text) + found


def readings(wording: str) -> Iterator[str]:
    choice = re.search(r"\(([^()]*\|[^()]*)\)", wording)
    if choice is None:
        yield wording
        return
    for part in choice[1].split("|"):
        yield from readings(wording[: choice.start()] + part + wording[choice.end() :])


@dataclass(frozen=True)
class Item:
    """The content of one question before it is worded: `key` names it, slots fill the templates.

    Items with the same key are held out together, also across tasks (7 + 5 is 5 + 7 and a word problem).
    `ask` and `answer` override the task's, for tasks whose items share no wording (small talk, science).
    """

    key: str
    en: Slots
    zh: Slots
    ask: Wordings | None = None
    answer: Mapping[Lang, str] | None = None

    def slots(self, lang: Lang) -> Slots:
        return self.en if lang == "en" else self.zh


@dataclass(frozen=True)
class Task:
    """A kind of question. The last wording of each language is never trained.

    `held_out` says what else is kept back: "arguments" keeps a tenth of the items from training in every
    wording and both languages (the model must compute), "wording" keeps a tenth of the (wording, item)
    pairs (the model must know the fact from its other wordings), "nothing" is for fixed sentences.
    """

    name: str
    draw: Callable[[Random], Item]
    ask: Wordings
    answer: Mapping[Lang, str]
    short: Mapping[Lang, str] | None = None
    follow: Mapping[Lang, str] | None = None
    held_out: Literal["arguments", "wording", "nothing"] = "wording"
    weight: float = 1.0
    quoted: str | None = None  # the slot that people put in quotation marks

    def wordings(self, item: Item, lang: Lang) -> tuple[str, ...]:
        return expand((item.ask or self.ask)[lang], self.quoted)

    def langs(self) -> tuple[Lang, ...]:
        return tuple(lang for lang in LANGS if lang in self.ask)


@dataclass(frozen=True)
class Question:
    """One worded question: `wording` is its index in the task's list, `short` its answer in a word."""

    task: Task
    item: Item
    lang: Lang
    wording: int
    text: str

    def answer(self, lang: Lang) -> str:
        template = (self.item.answer or self.task.answer)[lang]
        return template.format_map(self.item.slots(lang))

    def short(self, lang: Lang) -> str | None:
        if self.task.short is None:
            return None
        return self.task.short[lang].format_map(self.item.slots(lang))

    def follow(self) -> str | None:
        """The question as a follow-up to one of the same task: `And of Spain?`"""
        if self.task.follow is None:
            return None
        return self.task.follow[self.lang].format_map(self.item.slots(self.lang))


def one_in(n: int, *parts: object) -> bool:
    """A fixed n-th of all keys, the same on every machine (crc32, not hash())."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % n == 0


def is_new_wording(question: Question) -> bool:
    return question.wording == len(question.task.wordings(question.item, question.lang)) - 1


def is_held_out_item(question: Question) -> bool:
    if question.task.held_out == "nothing":
        return False
    if question.task.held_out == "arguments":
        return one_in(10, question.item.key)
    return one_in(10, question.task.name, question.lang, question.wording, question.item.key)


def is_trained(question: Question) -> bool:
    return not is_new_wording(question) and not is_held_out_item(question)


def word(task: Task, item: Item, lang: Lang, wording: int) -> Question:
    text = task.wordings(item, lang)[wording].format_map(item.slots(lang))
    return Question(task, item, lang, wording, text.strip())


def draw_question(task: Task, rng: Random, lang: Lang) -> Question:
    item = task.draw(rng)
    return word(task, item, lang, rng.randrange(len(task.wordings(item, lang))))


def draw_trained(task: Task, rng: Random, lang: Lang) -> Question:
    while True:
        question = draw_question(task, rng, lang)
        if is_trained(question):
            return question
