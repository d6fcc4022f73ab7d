"""Turns in, messages out; figures; streams side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from studio.serving.panes import State, View
from studio.ui import conversation

USER = {"role": "user", "content": "Hello"}
ANSWER = {
    "role": "assistant",
    "metadata": None,
    "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}],
}


def test_blocks_of_the_page_become_plain_text() -> None:
    assert conversation.messages([USER, ANSWER], "") == (USER, {"role": "assistant", "content": "Hi you"})


def test_system_prompt_comes_first_and_only_when_there_is_one() -> None:
    assert conversation.messages([USER], " Be brief. ")[0] == {"role": "system", "content": "Be brief."}
    assert conversation.messages([USER], "  ") == (USER,)


def test_model_never_sees_notes_nor_the_prompts_that_they_answer() -> None:
    history = [{"role": "user", "content": "lost"}, conversation.note("The server was down."), USER]
    assert conversation.messages(history, "") == (USER,)


def test_again_drops_what_came_after_the_last_prompt() -> None:
    assert conversation.again([USER, ANSWER, USER, ANSWER, conversation.note("broke off")]) == [USER, ANSWER, USER]
    assert conversation.again([]) == []


def test_thoughts_that_the_prompt_began_are_shown_as_thoughts() -> None:
    def shown(text: str) -> str:
        return str(conversation.answered([USER], View(State.DONE, text))[-1]["content"])

    assert shown("so\n</think>\n\nHi") == "<think>so\n</think>\n\nHi"
    assert shown("<think>so</think>Hi") == "<think>so</think>Hi"
    assert shown("Hi") == "Hi"


def test_partial_answer_stays_beside_its_error() -> None:
    turns = conversation.answered([USER], View(State.FAILED, "half an ans", error="The answer broke off"))
    assert [conversation.text(turn["content"]) for turn in turns] == ["Hello", "half an ans", "The answer broke off"]
    assert conversation.messages([*turns, USER], "")[1]["content"] == "half an ans"


def test_empty_answer_is_said() -> None:
    assert len(conversation.answered([USER], View(State.WAITING))) == 1
    assert "before the first word" in conversation.answered([USER], View(State.DONE))[-1]["content"]


def test_figures_of_a_finished_answer() -> None:
    line = conversation.figures(View(State.DONE, "x", 23, 9, 0.0452, 151.6, "stop"))
    for part in ("first token 45 ms", "152 tokens/s", "23 tokens", "finished"):
        assert part in line
    assert "live" not in line
    assert "cut at max_tokens" in conversation.figures(View(State.DONE, "x", 1, 9, 1.26, None, "length"))


@pytest.mark.parametrize(
    "line",
    [
        conversation.figures(View(State.STREAMING, "x", 5, None, 0.1, 50.0)),
        conversation.waiting({"message": "<b>", "eta_s": 9}),
    ],
)
def test_halted_line_no_longer_lives(line: str) -> None:
    assert "live" in line
    assert "<b>" not in line
    assert "live" not in conversation.halted(line)
    assert "stopped" in conversation.halted(line)


def test_slow_stream_does_not_hold_up_a_fast_one() -> None:
    async def read() -> list[list[int | None]]:
        return [newest async for newest in conversation.abreast([_count(5, 0.0), _count(1, 0.3)])]

    seen = asyncio.run(read())
    assert [4, None] in seen
    assert seen[-1] == [4, 0]


def test_closing_ends_every_stream() -> None:
    ended: list[int] = []

    async def read() -> None:
        both = conversation.abreast([_count(9, 0.01, ended), _count(9, 60, ended)])
        await anext(both)
        await both.aclose()

    asyncio.run(asyncio.wait_for(read(), 5))
    assert len(ended) == 2


def test_stream_that_fails_is_heard() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        raise ZeroDivisionError

    async def read() -> None:
        async for _ in conversation.abreast([broken(), _count(1, 60)]):
            pass

    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(read(), 5))


async def _count(until: int, pause_s: float, ended: list[int] | None = None) -> AsyncGenerator[int, None]:
    try:
        for number in range(until):
            await asyncio.sleep(pause_s)
            yield number
    finally:
        if ended is not None:
            ended.append(1)
