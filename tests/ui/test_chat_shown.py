"""Turns as a page shows them: folded thoughts and calls, figures, tokens, differences; and everything escaped."""

from __future__ import annotations

import pytest

from studio.conversations import turns
from studio.conversations.conversation import Figures, Pane, Turn
from studio.serving.client import Token, ToolCall
from studio.serving.panes import State, View
from studio.ui.tabs.chat import shown


def test_thoughts_are_folded_whether_the_server_parts_them_or_not() -> None:
    apart = shown.of_turn(Turn("assistant", "4", reasoning="2 and 2"))
    tagged = shown.of_turn(Turn("assistant", "<think>2 and 2</think>\n\n4"))
    begun_by_the_prompt = shown.of_turn(turns.answered(Pane(""), View(text="2 and 2</think>4")).turns[-1])
    assert apart == tagged == begun_by_the_prompt
    assert [(each["content"], each.get("metadata")) for each in apart] == [
        ("2 and 2", {"title": "Thoughts", "status": "done"}),
        ("4", None),
    ]


def test_thoughts_are_open_while_they_are_thought() -> None:
    (only,) = shown.of_turn(Turn("assistant", "<think>2 and"), growing=True)
    assert only == {"role": "assistant", "content": "2 and", "metadata": {"title": "Thoughts", "status": "pending"}}


def test_calls_of_tools_are_shown_as_code_also_where_the_model_wrote_them_as_text() -> None:
    told = Turn("assistant", tool_calls=(ToolCall("weather", '{"city":"Bern"}'),))
    written = Turn("assistant", '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>')
    for turn in (told, written):
        call = shown.of_turn(turn)[-1]
        assert call["metadata"]["title"] == "Calls weather"
        assert call["content"] == '```json\n{\n  "city": "Bern"\n}\n```'


def test_what_is_no_json_is_shown_as_it_came_in_a_fence_that_holds_it() -> None:
    (call,) = shown.of_turn(Turn("assistant", tool_calls=(ToolCall("run", "```{half"),)))
    assert call["content"] == "````json\n```{half\n````"


def test_a_message_belongs_to_its_turn_however_many_messages_a_turn_has() -> None:
    pane = Pane("", turns=(Turn("user", "a"), Turn("assistant", "b", reasoning="c", note="d"), Turn("user", "e")))
    assert [each["content"] for each in shown.messages(pane)] == ["a", "c", "b", "d", "e"]
    assert [shown.turn_of(pane, message) for message in range(6)] == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("text", "title"), [("", "No answer"), ("Once upon", "The answer is not whole")])
def test_a_note_is_called_by_what_came_before_it(text: str, title: str) -> None:
    *_, note = shown.of_turn(Turn("assistant", text, note="the model server closed the connection"))
    assert note["metadata"]["title"] == title


def test_figures_say_how_fast_how_long_and_why_it_ended() -> None:
    line = shown.figures(Figures(tokens=1, ttft_s=0.045, tokens_per_s=65.4, finish_reason="length"))
    assert line.count("<span>") == 4
    for words in ("first token 45 ms", "65 tokens/s", "1 token<", "cut at max_tokens"):
        assert words in line


@pytest.mark.parametrize("view", [View(), View(State.STREAMING, "so far", 2, ttft_s=1.25)])
def test_the_line_of_an_answer_is_live_until_it_is_over_or_stopped(view: View) -> None:
    assert shown.is_live(shown.of_view(view))
    assert not shown.is_live(shown.halted(shown.of_view(view)))
    assert "stopped" in shown.halted(shown.of_view(view))
    assert not shown.is_live(shown.of_view(view.stopped()))


def test_a_server_that_starts_says_how_long_it_will_take() -> None:
    assert "loading weights, about 12 s left" in shown.waiting({"message": "loading weights", "eta_s": 12.2})
    assert "asking" in shown.waiting({})


def test_tokens_tell_their_alternatives_and_nothing_of_an_answer_becomes_markup() -> None:
    turn = Turn("assistant", "<b>", tokens=(Token('<b>"', -0.6931472, (('<b>"', -0.6931472), ("\n", -1.6094379))),))
    html = shown.tokens(turn)
    assert "<b>" not in html
    assert "&lt;b&gt;&quot;</span>" in html
    assert "50.0%" in html
    assert "20.0%  &#x27;\\n&#x27;" in html
    assert 'tabindex="0" style="--doubt:0.50"' in html
    assert shown.tokens(None) == shown.tokens(Turn("assistant", "none were asked for")) == ""


def test_only_the_first_token_is_reached_by_tab_the_others_by_arrows() -> None:
    html = shown.tokens(Turn("assistant", "ab", tokens=(Token("a", 0.0), Token("b", 0.0))))
    assert [part[:2] for part in html.split('tabindex="')[1:]] == ['0"', "-1"]


def test_the_difference_of_two_answers_is_marked_word_by_word_without_their_thoughts() -> None:
    left = Pane("", turns=(Turn("user", "q"), Turn("assistant", "<think>long</think>It is <four> cats.")))
    right = Pane("", turns=(Turn("user", "q"), Turn("assistant", "It is five cats.")))
    html = shown.differences(left, right, ("A", "B"))
    assert "long" not in html
    assert "only in A" in html
    assert "<ins>five " in html
    assert "&lt;" in html
    assert "<four>" not in html
    assert "same answer" in shown.differences(right, right, ("A", "B"))
    assert "once both have one" in shown.differences(left, Pane(""), ("A", "B"))
