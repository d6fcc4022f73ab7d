"""What happens in a pane, and that nothing which was said is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.conversations import conversation, turns
from studio.conversations.conversation import Conversation, Pane, Turn
from studio.serving.client import Token, ToolCall
from studio.serving.panes import State, View

CALL = ToolCall("weather", '{"city": "Bern"}', "call-1")


def said(text: str, **more: object) -> View:
    return replace(View(State.DONE, text, 5, 9, 0.1, 50.0, "stop"), **more)  # type: ignore[arg-type]


def pane(*texts: str) -> Pane:
    """A pane with prompts and answers in turn."""
    value = Pane("seedling")
    for number, text in enumerate(texts):
        value = turns.answered(value, said(text)) if number % 2 else turns.asked(value, text)
    return value


def shown(value: Pane) -> list[str]:
    return [turn.content for turn in value.turns]


def everything(value: Pane) -> set[str]:
    """Every text in any version."""

    def texts(tail: tuple[Turn, ...]) -> Iterator[str]:
        for turn in tail:
            yield turn.content
            for other in turn.others:
                yield from texts(other)

    return {text for tail in (value.turns, *value.others) for text in texts(tail)}


def test_an_answer_keeps_what_came_with_it() -> None:
    tokens = (Token("Hi", -0.1, (("Hi", -0.1), ("Ho", -2.0))),)
    answer = turns.answered(pane("Hello"), said("Hi", reasoning="greet", tool_calls=(CALL,), logprobs=tokens)).turns[1]
    assert (answer.role, answer.content, answer.reasoning, answer.by) == ("assistant", "Hi", "greet", "seedling")
    assert (answer.tool_calls, answer.tokens, answer.note) == ((CALL,), tokens, "")
    assert answer.figures
    assert (answer.figures.tokens, answer.figures.ttft_s, answer.figures.finish_reason) == (5, 0.1, "stop")


def test_model_never_sees_notes_nor_the_prompts_that_they_answer() -> None:
    value = turns.answered(pane("lost"), View(State.FAILED, error="The server was down"))
    assert value.turns[1].note == "The server was down"
    assert turns.messages(turns.asked(value, "Hello")) == ({"role": "user", "content": "Hello"},)


def test_part_of_an_answer_is_seen_though_it_broke_off() -> None:
    value = turns.answered(pane("Hello"), View(State.FAILED, "half an ans", error="The answer broke off"))
    assert turns.messages(turns.asked(value, "go on"))[1] == {"role": "assistant", "content": "half an ans"}


def test_an_answer_without_a_word_is_said() -> None:
    assert "before the first word" in turns.answered(pane("Hello"), View(State.DONE)).turns[1].note
    assert not turns.answered(pane("Hello"), View(State.STOPPED)).turns[1].note


def test_system_prompt_comes_first_and_only_when_there_is_one() -> None:
    assert turns.messages(pane("Hello"), " Be brief. ")[0] == {"role": "system", "content": "Be brief."}
    assert turns.messages(pane("Hello"), "  ") == ({"role": "user", "content": "Hello"},)


def test_calls_and_results_of_tools_go_along() -> None:
    value = turns.answered(pane("Weather?"), said("", tool_calls=(CALL,)))
    value = replace(value, turns=(*value.turns, Turn("tool", "12 °C")))
    call, result = turns.messages(value)[1:]
    assert call["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert result == {"role": "tool", "content": "12 °C", "tool_call_id": "call-1"}


def test_another_answer_keeps_the_first() -> None:
    value = turns.regenerated(pane("a", "b", "c", "first"))
    assert shown(value) == ["a", "b", "c"]
    value = turns.answered(value, said("second"))
    assert turns.versions(value, 3) == (1, 2)
    assert shown(turns.switched(value, 3, 0)) == ["a", "b", "c", "first"]
    assert turns.switched(turns.switched(value, 3, 0), 3, 1) == value


def test_nothing_to_regenerate() -> None:
    assert turns.regenerated(Pane("seedling")) == Pane("seedling")
    assert turns.regenerated(pane("a")) == pane("a") or shown(turns.regenerated(pane("a"))) == ["a"]


def test_a_failure_is_no_version() -> None:
    value = turns.answered(pane("a"), View(State.FAILED, error="The server was down"))
    value = turns.answered(turns.regenerated(value), said("b"))
    assert turns.versions(value, 1) == (0, 1)


def test_an_edit_drops_what_followed_and_keeps_it() -> None:
    value = turns.edited(pane("a", "b", "c", "d"), 0, "A")
    assert shown(value) == ["A"]
    assert turns.versions(value, 0) == (1, 2)
    assert shown(turns.switched(value, 0, 0)) == ["a", "b", "c", "d"]
    assert turns.edited(value, 0, "A") is value


def test_words_put_into_the_models_mouth() -> None:
    value = turns.asked(turns.edited(pane("a", "b", "c"), 1, "better"), "next")
    assert [message["content"] for message in turns.messages(value)] == ["a", "better", "next"]
    assert turns.versions(value, 1) == (1, 2)


def test_versions_within_versions() -> None:
    value = turns.answered(turns.regenerated(pane("a", "b", "c", "d")), said("e"))
    value = turns.answered(turns.edited(value, 0, "A"), said("B"))
    back = turns.switched(value, 0, 0)
    assert shown(back) == ["a", "b", "c", "e"]
    assert shown(turns.switched(back, 3, 0)) == ["a", "b", "c", "d"]
    assert everything(value) == set("abcdeAB")


def test_a_cleared_pane_can_be_taken_up_again() -> None:
    value = turns.asked(turns.cleared(pane("a", "b")), "c")
    assert shown(turns.switched(value, 0, 0)) == ["a", "b"]
    assert turns.cleared(Pane("seedling")) == Pane("seedling")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.text("abc", max_size=3)),
        st.tuples(st.just("answer"), st.text("xyz", min_size=1, max_size=3)),
        st.tuples(st.just("again"), st.none()),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("edit"), st.integers(0, 9)),
        st.tuples(st.just("switch"), st.integers(0, 9)),
    ),
    max_size=20,
)


@given(STEPS)
def test_whatever_happens_nothing_is_lost(steps: list[tuple[str, object]]) -> None:
    value, kept = Pane("seedling"), set()
    for number, (step, what) in enumerate(steps):
        value = _stepped(value, step, what, number)
        kept |= set(shown(value))
        assert kept - {""} <= everything(value)
        for at in range(len(value.turns)):
            place, count = turns.versions(value, at)
            assert 0 <= place < count


def _stepped(value: Pane, step: str, what: object, number: int) -> Pane:
    at = what % len(value.turns) if isinstance(what, int) and value.turns else 0
    if step == "ask":
        return turns.asked(value, f"{number} {what}")
    if step == "answer":
        return turns.answered(value, said(f"{number} {what}"))
    if step in ("again", "clear"):
        return turns.regenerated(value) if step == "again" else turns.cleared(value)
    if not value.turns:
        return value
    return turns.edited(value, at, f"edit {number}") if step == "edit" else turns.switched(value, at, 0)


def test_a_branch_shares_what_was_said_up_to_there() -> None:
    left, right = pane("a", "b", "c", "d", "e", "f"), pane("a", "B", "c", "D", "e", "F")
    whole = replace(conversation.new(["seedling", "stone"]), panes=(left, turns.regenerated(right)), system="Be brief")
    branch = turns.branched(whole, 0, 3)
    assert [shown(each) for each in branch.panes] == [["a", "b", "c", "d"], ["a", "B", "c", "D"]]
    assert (branch.parent, branch.system) == (whole.id, "Be brief")
    assert branch.id != whole.id
    assert [shown(each) for each in turns.branched(whole, 0, 2).panes] == [["a", "b", "c"], ["a", "B", "c", "D"]]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Who are you?", "Who are you?"),
        ("  two\n\nlines ", "two lines"),
        ("word " * 30, f"{'word ' * 11}word…"),
        ("字" * 80, f"{'字' * 60}…"),
        ("", ""),
    ],
)
def test_the_first_prompt_is_the_title(prompt: str, expected: str) -> None:
    assert turns.title(Conversation("x", panes=(Pane("a"), turns.asked(Pane("b"), prompt)))) == expected


def test_thoughts_are_told_from_what_was_said() -> None:
    assert turns.with_thoughts("so\n</think>\n\nHi") == "<think>so\n</think>\n\nHi"
    assert turns.with_thoughts("<think>so</think>Hi") == "<think>so</think>Hi"
    assert turns.thoughts(Turn("assistant", "<think>\nso\n</think>\n\nHi")) == ("so", "Hi")
    assert turns.thoughts(Turn("assistant", "Hi", "so")) == ("so", "Hi")
    assert turns.thoughts(Turn("assistant", "Hi")) == ("", "Hi")
    assert turns.thoughts(Turn("assistant", "<think>cut of")) == ("cut of", "")
