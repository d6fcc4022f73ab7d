"""Conversations as files for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from studio.conversations import conversation, export, turns
from studio.conversations.conversation import Conversation, Pane
from studio.serving.client import ToolCall
from studio.serving.panes import State, View


@pytest.fixture
def talk() -> Conversation:
    view = View(
        State.DONE, "<think>greet</think>\n\nHi **you**", 5, 9, 0.1, 50.0, "stop",
        tool_calls=(ToolCall("weather", '{"city": "```"}'),),
    )  # fmt: skip
    left = turns.answered(turns.asked(Pane("seedling"), "Hello"), view)
    right = turns.answered(turns.asked(Pane("stone"), "Hello"), View(State.FAILED, error="The server was down"))
    right = replace(right, turns=(right.turns[0], replace(right.turns[1], by="pebble")))
    value = replace(conversation.new(["seedling", "stone"]), title="My talk", system="Be brief", tools="[]")
    return replace(value, panes=(left, right))


def test_markdown_shows_every_pane(talk: Conversation) -> None:
    text = export.markdown(talk)
    assert text.startswith("# My talk\n\nBegun 20")
    left, right = text.split("## seedling")[1].split("## stone")
    assert "## System prompt\n\nBe brief" in text
    assert "**User:**\n\nHello\n\n**Assistant:**\n\n<details><summary>Thoughts</summary>\n\ngreet" in left
    assert '\n\nHi **you**\n\n````\nweather({"city": "```"})\n````' in left
    assert "*5 tokens · first token 100 ms · 50 tokens/s · stop*" in left
    assert "**Assistant (pebble):**\n\n> The server was down" in right


def test_an_empty_conversation_has_a_heading() -> None:
    assert export.markdown(Conversation("x")).startswith("# Conversation\n")


def test_json_holds_everything(talk: Conversation) -> None:
    talk = replace(talk, panes=(turns.regenerated(talk.panes[0]), talk.panes[1]))
    text = export.to_json(talk)
    assert json.loads(text)["panes"][0]["turns"][0]["others"][0][0]["content"].endswith("Hi **you**")
    assert TypeAdapter(Conversation).validate_json(text) == talk
