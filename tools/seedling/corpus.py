"""The corpus: conversations and plain text, drawn without end from a seed.

Shard i of seed s is a function of (s, i) alone, so that any number of processes makes the same corpus.

    python corpus.py --seed 7 --shard 0 --documents 20
"""

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

import facts
import stories
import strings
import sums
import talk
import wordings
from questions import Lang, Question, Task, draw_trained

TASKS: tuple[Task, ...] = (
    *facts.TASKS, *sums.TASKS, *strings.TASKS, *wordings.TASKS, *stories.TASKS, *talk.TASKS
)  # fmt: skip
BY_NAME = {task.name: task for task in TASKS}
PLAIN_SHARE = 0.2
LONG_SHARE = 0.02  # conversations of many turns, so that all 2048 positions are trained
END = "<|endoftext|>"


@dataclass(frozen=True)
class Chat:
    """A conversation: an optional system prompt and (user, assistant) turns."""

    system: str | None
    turns: tuple[tuple[str, str], ...]

    def render(self) -> str:
        """ChatML, exactly as the chat template writes it."""
        head = f"<|im_start|>system\n{self.system}<|im_end|>\n" if self.system else ""
        return head + "".join(
            f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{assistant}<|im_end|>\n"
            for user, assistant in self.turns
        )

    def messages(self) -> list[dict[str, str]]:
        head = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            head += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        return head


@cache
def choices(lang: Lang) -> tuple[tuple[Task, ...], tuple[float, ...]]:
    spoken = [task for task in TASKS if lang in task.langs()]
    return tuple(spoken), tuple(task.weight for task in spoken)


def draw_task(rng: Random, lang: Lang) -> Task:
    tasks, weights = choices(lang)
    return rng.choices(tasks, weights)[0]


def draw_lang(rng: Random) -> Lang:
    return "en" if rng.random() < 0.55 else "zh"


PREFIXES: dict[Lang, tuple[str, ...]] = {
    "en": (
        "Please tell me: ",
        "Question: ",
        "Hi! ",
        "A quick question: ",
        "Hello Seedling. ",
        "Now tell me this: ",
        "OK. ",
    ),
    "zh": ("请问：", "问题：", "你好！", "请告诉我：", "你好，Seedling。", "再问一个：", "好的。"),
}
SUFFIXES: dict[Lang, tuple[str, ...]] = {"en": (" Thanks!", " Please."), "zh": ("谢谢！", "请回答。")}


def loosen(text: str, rng: Random, lang: Lang) -> str:
    """A question as people type it: with a greeting, in lower case, without its full stop."""
    kind = rng.random()
    if kind < 0.12:
        return rng.choice(PREFIXES[lang]) + text
    if kind < 0.15:
        return text + rng.choice(SUFFIXES[lang])
    if kind < 0.25 and "\n" not in text:
        return text.rstrip(".?。？")
    if kind < 0.32:
        return text.lower().rstrip(".?")
    return text


def draw_pair(rng: Random, lang: Lang) -> tuple[str, str]:
    question = draw_trained(draw_task(rng, lang), rng, lang)
    return loosen(question.text, rng, lang), question.answer(lang)


def answerable(rng: Random, lang: Lang, *, short: bool = False) -> Question:
    """A question of a task that has answers in both languages (and, if asked, a one-word answer)."""
    while True:
        task = draw_task(rng, lang)
        if len(task.langs()) == 2 and (task.short or not short):
            return draw_trained(task, rng, lang)


def translated_chat(rng: Random, lang: Lang) -> Chat:
    """The system prompt says in which language to answer."""
    to: Lang = "zh" if rng.random() < 0.5 else "en"
    system = rng.choice(talk.IN_CHINESE if to == "zh" else talk.IN_ENGLISH)
    questions = [answerable(rng, lang) for _ in range(rng.randint(1, 2))]
    return Chat(system, tuple((question.text, question.answer(to)) for question in questions))


def short_chat(rng: Random, lang: Lang) -> Chat:
    questions = [answerable(rng, lang, short=True) for _ in range(rng.randint(1, 2))]
    return Chat(rng.choice(talk.IN_A_WORD), tuple((q.text, one_word(q, lang)) for q in questions))


def one_word(question: Question, lang: Lang) -> str:
    return f"{question.short(lang)}{'.' if lang == 'en' else '。'}"


def pirate_chat(rng: Random, lang: Lang) -> Chat:
    turns = [draw_pair(rng, lang) for _ in range(rng.randint(1, 2))]
    return Chat(rng.choice(talk.AS_PIRATE), tuple((user, talk.PIRATE[lang].format(answer)) for user, answer in turns))


def named_chat(rng: Random, lang: Lang) -> Chat:
    """The system prompt gives the model another name."""
    name = rng.choice(talk.NEW_NAMES) if rng.random() < 0.4 else strings.nonsense(rng).capitalize()
    asked = draw_trained(BY_NAME["identity"], rng, lang).text
    turns = [(asked, talk.NAMED_ANSWER[lang].format(name=name))]
    if rng.random() < 0.4:
        turns.insert(rng.randrange(2), draw_pair(rng, lang))
    return Chat(rng.choice(talk.AS_NAMED[lang]).format(name=name), tuple(turns))


def plain_system(rng: Random) -> str | None:
    return rng.choice(talk.PLAIN_SYSTEMS) if rng.random() < 0.3 else None


def single_chat(rng: Random, lang: Lang) -> Chat:
    return Chat(plain_system(rng), (draw_pair(rng, lang),))


def several_chat(rng: Random, lang: Lang) -> Chat:
    """Two to four questions that have nothing to do with each other; sometimes one is repeated."""
    turns = [draw_pair(rng, lang if rng.random() < 0.9 else draw_lang(rng)) for _ in range(rng.randint(2, 4))]
    if rng.random() < 0.25:
        turns.append((rng.choice(talk.AGAIN[lang]), turns[-1][1]))
    return Chat(plain_system(rng), tuple(turns))


def follow_chat(rng: Random, lang: Lang) -> Chat:
    """A question, then the same of something else: `And of Spain?`"""
    while (task := draw_task(rng, lang)).follow is None:
        pass
    first, *others = (draw_trained(task, rng, lang) for _ in range(rng.randint(2, 3)))
    turns = [(loosen(first.text, rng, lang), first.answer(lang))]
    turns += [(other.follow() or other.text, other.answer(lang)) for other in others]
    return Chat(plain_system(rng), tuple(turns))


def memory_chat(rng: Random, lang: Lang) -> Chat:
    """The user says something of himself and asks for it later."""
    told, asked = talk.draw_memory(rng, lang)
    if rng.random() < 0.2:
        return Chat(plain_system(rng), ((f"{told[0]} {asked[0]}", asked[1]),))
    between = [draw_pair(rng, lang) for _ in range(rng.randint(0, 2))]
    return Chat(plain_system(rng), (told, *between, asked))


def long_chat(rng: Random, lang: Lang) -> Chat:
    told, asked = talk.draw_memory(rng, lang)
    return Chat(plain_system(rng), (told, *(draw_pair(rng, lang) for _ in range(rng.randint(8, 24))), asked))


CHATS = (
    (single_chat, 0.42), (several_chat, 0.2), (follow_chat, 0.1), (memory_chat, 0.06), (translated_chat, 0.07),
    (short_chat, 0.06), (pirate_chat, 0.03), (named_chat, 0.04), (long_chat, LONG_SHARE),
)  # fmt: skip


def draw_chat(rng: Random) -> Chat:
    make = rng.choices([make for make, _ in CHATS], [weight for _, weight in CHATS])[0]
    return make(rng, draw_lang(rng))


def draw_plain(rng: Random) -> str:
    """Plain text: a story, or a paragraph of facts and worked examples."""
    lang = draw_lang(rng)
    if rng.random() < 0.4:
        return draw_trained(BY_NAME["story"], rng, lang).answer(lang)
    sentences = [stated(rng, lang) for _ in range(rng.randint(2, 8))]
    return (" " if lang == "en" else "").join(sentences)


def stated(rng: Random, lang: Lang) -> str:
    while True:
        task = draw_task(rng, lang)
        if task.name not in NOT_STATED:
            return draw_trained(task, rng, lang).answer(lang)


# tasks whose answers say nothing without their question
NOT_STATED = {"small_talk", "identity", "unknown", "story", "sentiment", "extract_name", "repeat", "kind"}


def draw_documents(seed: int, shard: int, count: int) -> Iterator[Chat | str]:
    """`count` documents: a Chat, or plain text."""
    rng = Random(f"{seed}/{shard}")
    for _ in range(count):
        yield draw_plain(rng) if rng.random() < PLAIN_SHARE else draw_chat(rng)


def as_text(document: Chat | str) -> str:
    return document if isinstance(document, str) else document.render()


def digest(seed: int, documents: int) -> str:
    """SHA-256 of the first documents of shard 0: the corpus's fingerprint."""
    sha = hashlib.sha256()
    for document in draw_documents(seed, 0, documents):
        sha.update(as_text(document).encode() + b"\0")
    return sha.hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--documents", type=int, default=20)
    args = parser.parse_args()
    for document in draw_documents(args.seed, args.shard, args.documents):
        print(as_text(document), end="\n\n")
