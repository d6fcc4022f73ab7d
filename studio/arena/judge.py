"""A model that votes: asked about both orders of two answers, because judges favour a place."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from studio.arena.battles import Battle, Verdict
from studio.arena.prompts import Prompt
from studio.arena.votes import Outcome
from studio.errors import ServingError

Ask = Callable[[str], Awaitable[str]]

PROMPT = """Compare two answers to the same prompt. What counts is how well each does what the prompt asks for: \
whether it is correct, complete and clear. The order of the answers does not count, nor does their length.

Think about both in a few sentences. Then end with your verdict alone on the last line: [[A]] if answer A is better, \
[[B]] if answer B is better, [[C]] if neither is.

=== Prompt ===
{prompt}

=== Answer A ===
{answer_a}

=== Answer B ===
{answer_b}"""
PLACE = re.compile(r"\{(prompt|answer_a|answer_b)\}")
LETTER = re.compile(r"\[\[([ABC])\]\]")
# what a letter stands for when the left answer was A, and when the right one was
LEFT_FIRST: dict[str, Outcome] = {"A": "left", "B": "right", "C": "tie"}
RIGHT_FIRST: dict[str, Outcome] = {"A": "right", "B": "left", "C": "tie"}


async def judge(battle: Battle, ask: Ask, template: str | None = None) -> Verdict:
    """What the model behind `ask` thinks of a battle.

    Where the order of the answers decides, it is a tie. A call that fails, or says no verdict, is a missing value.
    """
    left, right = battle.left.text, battle.right.text
    texts: list[str] = []
    try:
        for first, second in ((left, right), (right, left)):
            texts.append(await ask(worded(template or PROMPT, battle.prompt, first, second)))
    except ServingError as error:
        return Verdict(battle.id, None, tuple(texts), str(error))
    return _verdict(battle.id, texts[0], texts[1])


def worded(template: str, prompt: Prompt, answer_a: str, answer_b: str) -> str:
    """What the judge is asked. An answer that holds {answer_b} is shown as it is."""
    places = {"prompt": _told(prompt), "answer_a": answer_a, "answer_b": answer_b}
    return PLACE.sub(lambda match: places[match[1]], template)


def letter(text: str) -> str | None:
    """The verdict in a judge's text: its last one, since it may talk about the others first."""
    return next(reversed(LETTER.findall(text)), None)


def _verdict(battle_id: str, first: str, second: str) -> Verdict:
    letters = letter(first), letter(second)
    if None in letters:
        return Verdict(battle_id, None, (first, second), "it gave no [[A]], [[B]] or [[C]]")
    said = LEFT_FIRST[str(letters[0])], RIGHT_FIRST[str(letters[1])]
    return Verdict(battle_id, said[0] if said[0] == said[1] else "tie", (first, second))


def _told(prompt: Prompt) -> str:
    """A single question as it is, a conversation with its speakers."""
    if len(prompt.request) == 1:
        return prompt.messages[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt.request)
