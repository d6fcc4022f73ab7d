"""Conversations in a terminal, with a server that says what is wanted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from studio.cli import chat
from studio.conversations import turns
from studio.conversations.shelf import Shelf
from studio.errors import ConfigError
from studio.serving.client import Server
from studio.serving.remotes import Remote, Remotes

TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: Server) -> Shelf:
    """The shelf of a studio that knows the server's models as remote ones."""
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path))
    for model in ("fast", "broken", "thinker", "caller", "parserless"):
        Remotes(tmp_path).add(Remote(model, fake.url, model))
    return Shelf(tmp_path / "conversations")


def talk(monkeypatch: pytest.MonkeyPatch, words: list[str], *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    assert chat.main(words) == 0


def test_a_conversation_is_kept_as_it_went_on(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["url:fast", "url:broken", "--save", "--system", "Be brief", "seed=7"]
    talk(monkeypatch, words, "Hello", "/again", "And now?", "/nonsense", "/quit", "never")
    output = capsys.readouterr().out
    assert output.count("[url:fast]") == output.count("[url:broken]") == 3
    assert output.count("(The answer broke off") == 3
    (entry,) = shelf.list()
    assert f"kept as {entry.id}" in output
    kept = shelf.load(entry.id)
    assert (kept.title, kept.system, kept.sampling.seed) == ("Hello", "Be brief", 7)
    left, right = kept.panes
    assert [turn.role for turn in left.turns] == ["user", "assistant"] * 2
    assert turns.versions(left, 1) == (1, 2)
    assert (right.turns[1].content, right.turns[1].note[:20]) == ("0 1 2 ", "The answer broke off")


def test_beginning_anew_is_another_conversation(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    talk(monkeypatch, ["url:fast", "--save"], "/again", "one", "/system Be brief", "two", "/clear", "three")
    titles = {entry.title: shelf.load(entry.id) for entry in shelf.list()}
    assert set(titles) == {"one", "two", "three"}
    assert [titles[title].system for title in ("one", "two", "three")] == ["", "Be brief", "Be brief"]


def test_nothing_is_kept_unasked(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    talk(monkeypatch, ["url:fast"], "Hello")
    assert shelf.list() == []


def test_thoughts_and_calls_of_tools_are_shown(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    talk(monkeypatch, ["url:thinker", "url:caller", "url:parserless", "--tools", str(tmp_path / "tools.json")], "Hello")
    output = capsys.readouterr().out
    assert "<think>They greet. So I.</think>\nHi" in output
    assert '-> weather({"city": "Bern"})\n-> time({})' in output
    assert "0 1 2 3" in output.split("[url:parserless]")[1]


@pytest.mark.parametrize(
    ("text", "what"),
    [("[{,}]", r"tools: no JSON: line 1, column 3"), ("5", "tool 1: it must be an object"), (None, "cannot be read")],
)
def test_tools_that_are_wrong_are_told_before_anything_starts(
    shelf: Shelf, tmp_path: Path, text: str | None, what: str
) -> None:
    if text is not None:
        (tmp_path / "tools.json").write_text(text)
    with pytest.raises(ConfigError, match=what):
        chat.main(["url:fast", "--tools", str(tmp_path / "tools.json")])
