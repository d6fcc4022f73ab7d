"""Held-out accuracy of a model, per task and language, by greedy decoding.

    python evaluate.py MODEL --out evaluation.json

A question counts as right when the answer is the expected sentence, character by character; stories and
lists, which have many right answers, are checked for what was asked. No question here was ever trained.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import corpus
import talk
import torch
import wordings
from corpus import Chat
from questions import LANGS, Lang, Question, Task, draw_question, is_held_out_item, is_new_wording, is_trained, word
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

SEED = 1_000_003  # unlike any seed of the corpus
MAX_NEW_TOKENS = 160
STORY_SENTENCES = 5
BATCH = 512


@dataclass(frozen=True)
class Probe:
    """A conversation whose last answer the model has to give. `suite` and `lang` say where it is counted."""

    suite: str
    lang: Lang
    kind: str
    chat: Chat
    question: Question | None = None

    def prompt(self) -> str:
        rendered = self.chat.render()
        return rendered[: rendered.rindex("<|im_start|>assistant\n")] + "<|im_start|>assistant\n"

    def expected(self) -> str:
        return self.chat.turns[-1][1]


@dataclass(frozen=True)
class Score:
    suite: str
    lang: Lang
    kind: str
    right: int
    asked: int


# ---- what is asked


def distinct(draw: Callable[[], Question | None], count: int) -> Iterator[Question]:
    """Up to `count` different questions; small tasks have fewer."""
    seen: set[str] = set()
    for _ in range(count * 60):
        question = draw()
        if question is not None and question.text not in seen:
            seen.add(question.text)
            yield question
            if len(seen) == count:
                return


def is_untrained(question: Question) -> bool:
    """Held out for its item, and no trained wording happens to read the same."""
    if not is_held_out_item(question) or is_new_wording(question):
        return False
    task, item, lang = question.task, question.item, question.lang
    twins = (word(task, item, lang, i) for i in range(len(task.wordings(item, lang))))
    return not any(is_trained(twin) for twin in twins if twin.text == question.text)


def task_probes(task: Task, lang: Lang, count: int, rng: Random) -> Iterator[Probe]:
    def unseen_item() -> Question | None:
        question = draw_question(task, rng, lang)
        return question if is_untrained(question) else None

    def unseen_wording() -> Question:
        item = task.draw(rng)
        return word(task, item, lang, len(task.wordings(item, lang)) - 1)

    for kind, draw in (("question", unseen_item), ("wording", unseen_wording)):
        for question in distinct(draw, count):
            yield Probe(task.name, lang, kind, Chat(None, ((question.text, question.answer(lang)),)), question)


def held_out_of(rng: Random, lang: Lang, *, short: bool = False, follow: bool = False) -> Question:
    """A held-out question of any task that is answered word for word in both languages."""
    while True:
        question = draw_question(corpus.draw_task(rng, lang), rng, lang)
        task = question.task
        fits = len(task.langs()) == 2 and task.name not in FREE and (task.short or not short)
        if fits and (not follow or task.follow) and is_untrained(question):
            return question


def followed(rng: Random, lang: Lang) -> Chat:
    asked = held_out_of(rng, lang, follow=True)
    while not is_trained(before := draw_question(asked.task, rng, lang)):
        pass
    return Chat(None, ((before.text, before.answer(lang)), (asked.follow() or "", asked.answer(lang))))


def in_chinese(rng: Random, lang: Lang) -> Chat:
    asked = held_out_of(rng, lang)
    return Chat(rng.choice(talk.IN_CHINESE), ((asked.text, asked.answer("zh")),))


def in_english(rng: Random, lang: Lang) -> Chat:
    asked = held_out_of(rng, lang)
    return Chat(rng.choice(talk.IN_ENGLISH), ((asked.text, asked.answer("en")),))


def in_a_word(rng: Random, lang: Lang) -> Chat:
    asked = held_out_of(rng, lang, short=True)
    return Chat(rng.choice(talk.IN_A_WORD), ((asked.text, corpus.one_word(asked, lang)),))


def as_pirate(rng: Random, lang: Lang) -> Chat:
    asked = held_out_of(rng, lang)
    return Chat(rng.choice(talk.AS_PIRATE), ((asked.text, talk.PIRATE[lang].format(asked.answer(lang))),))


CONVERSATIONS: dict[str, Callable[[Random, Lang], Chat]] = {
    "follow_up": followed,
    "memory": corpus.memory_chat,
    "system_chinese": in_chinese,
    "system_english": in_english,
    "system_one_word": in_a_word,
    "system_pirate": as_pirate,
    "system_name": corpus.named_chat,
}


def probes(count: int) -> Iterator[Probe]:
    rng = Random(SEED)
    for task in corpus.TASKS:
        for lang in task.langs():
            yield from task_probes(task, lang, count, rng)
    for suite, make in CONVERSATIONS.items():
        for lang in LANGS:
            for _ in range(count):
                yield Probe(suite, lang, "conversation", make(rng, lang))


# ---- what counts as right


def tells_story(probe: Probe, answer: str) -> bool:
    """Names hero, place and thing where the question does, in whole sentences."""
    question = probe.chat.turns[-1][0]
    assert probe.question is not None
    slots = probe.question.item.slots(probe.lang)
    asked = [slots[name] for name in ("hero", "place", "thing") if slots[name] in question]
    sentences = sum(answer.count(stop) for stop in ".?!。？！")
    return all(part in answer for part in asked) and sentences >= STORY_SENTENCES and answer[-1] in ".。"


def lists_three(probe: Probe, answer: str) -> bool:
    """Three different members of the category asked for, in the expected sentence."""
    assert probe.question is not None
    item, side = probe.question.item, LANGS.index(probe.lang)
    members = next(words for kind, words in wordings.CLASSES if kind[0] == item.key)
    head = probe.question.answer(probe.lang).split(item.slots(probe.lang)["x"])[0]
    body = answer.removeprefix(head).rstrip(".。").replace("、", ", ").replace(" and ", ", ").replace("和", ", ")
    named = set(body.split(", "))
    return answer.startswith(head) and len(named) == 3 and named <= {pair[side] for pair in members}


FREE: dict[str, Callable[[Probe, str], bool]] = {"story": tells_story, "list_three": lists_three}


def is_right(probe: Probe, answer: str) -> bool:
    check = FREE.get(probe.suite)
    return check(probe, answer) if check and answer else answer == probe.expected()


# ---- asking


@torch.inference_mode()
def answer_all(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: list[Probe]) -> list[str]:
    """Greedy answers, in batches of about equally long ones, so that none waits for a story."""
    tokenizer.padding_side = "left"
    answers = [""] * len(asked)
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].expected()))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        inputs = tokenizer([asked[i].prompt() for i in chosen], padding=True, return_tensors="pt").to(model.device)
        output = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            answers[i] = text
    return answers


def score(asked: list[Probe], answers: list[str]) -> list[Score]:
    totals: dict[tuple[str, Lang, str], list[bool]] = {}
    for probe, answer in zip(asked, answers, strict=True):
        totals.setdefault((probe.suite, probe.lang, probe.kind), []).append(is_right(probe, answer))
    return [Score(*key, sum(rights), len(rights)) for key, rights in totals.items()]


def show(scores: list[Score]) -> None:
    for s in sorted(scores, key=lambda s: s.right / s.asked):
        print(f"{s.suite:22} {s.lang} {s.kind:13} {s.right:4}/{s.asked:<4} {100 * s.right / s.asked:6.1f} %")


def show_wrong(asked: list[Probe], answers: list[str], most: int) -> None:
    """A few wrong answers of each task: what to look at first."""
    shown: dict[tuple[str, Lang, str], int] = {}
    for probe, answer in zip(asked, answers, strict=True):
        key = (probe.suite, probe.lang, probe.kind)
        if not is_right(probe, answer) and shown.setdefault(key, 0) < most:
            shown[key] += 1
            print(f"{key}: {probe.chat.turns[-1][0]!r} -> {answer!r}, expected {probe.expected()!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=60, help="questions per task, language and kind")
    parser.add_argument("--wrong", type=int, default=2, help="wrong answers shown per task")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    asked = list(probes(args.count))
    answers = answer_all(model, tokenizer, asked)
    scores = score(asked, answers)
    show_wrong(asked, answers, args.wrong)
    show(scores)
    if args.out:
        args.out.write_text(json.dumps({"scores": [asdict(s) for s in scores]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
