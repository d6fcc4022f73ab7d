"""Conversations on disk: kept as they are, by several pages at once, with damaged files among them."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from studio.conversations import conversation, turns
from studio.conversations.conversation import Conversation, Pane, Turn
from studio.conversations.shelf import Shelf
from studio.errors import ConversationError
from studio.serving.client import Sampling, Token, ToolCall
from studio.serving.panes import State, View


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "conversations")


def begun(*picks: str, prompt: str = "Hello") -> Conversation:
    """A conversation in which something was asked everywhere."""
    value = conversation.new(picks or ("seedling",))
    return replace(value, panes=tuple(turns.asked(pane, prompt) for pane in value.panes))


def answering(index: int, text: str) -> Callable[[Conversation], Conversation]:
    view = View(State.DONE, text, 5, 9, 0.1, 50.0, "stop")
    return lambda now: now.with_pane(index, turns.answered(now.panes[index], view))


def contents(pane: Pane) -> list[str]:
    return [turn.content for turn in pane.turns]


def test_what_is_read_is_what_was_written(shelf: Shelf) -> None:
    answer = Turn(
        "assistant", "Hi \u2028 “you” 你好", "so", (ToolCall("f", '{"a": 1}', "x"),), "broke off",
        tokens=(Token("Hi", -0.125, (("Hi", -0.125), ("Ho", -9999.0))),), others=((Turn("assistant", "other"),),),
    )  # fmt: skip
    pane = Pane("stone", Sampling(0.5, logprobs=3, stop=("\n",)), (Turn("user", "Hello"), answer))
    value = replace(begun(), title="T", system="S", tools="[", panes=(pane, Pane("seedling")))
    written = shelf.create(value)
    assert shelf.load(value.id) == written == replace(value, updated=written.updated)


def test_the_one_that_was_changed_last_comes_first(shelf: Shelf) -> None:
    first = shelf.create(begun("seedling", "stone", prompt="one"))
    shelf.create(begun(prompt="two"))
    assert [entry.title for entry in shelf.list()] == ["two", "one"]
    shelf.change(first.id, answering(0, "Hi"))
    entry = shelf.list()[0]
    assert (entry.id, entry.picks, entry.prompts, entry.problem) == (first.id, ("seedling", "stone"), 1, "")


def test_nothing_is_listed_where_nothing_is(shelf: Shelf) -> None:
    assert shelf.list() == []
    assert shelf.search("a") == []


def test_answers_that_end_at_the_same_time_are_all_kept(shelf: Shelf) -> None:
    value = shelf.create(begun("a", "b", "c", "d"))
    workers = [
        threading.Thread(target=shelf.change, args=(value.id, answering(index, f"answer {index}"), {index: pane}))
        for index, pane in enumerate(value.panes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [contents(pane)[1:] for pane in shelf.load(value.id).panes] == [[f"answer {index}"] for index in range(4)]
    assert len(shelf.list()) == 1


def test_writers_in_other_processes_wait_for_each_other(shelf: Shelf) -> None:
    value = shelf.create(begun())
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(ask_often, [(shelf, value.id, name) for name in "ab"])
    assert len(shelf.load(value.id).panes[0].turns) == 1 + 2 * 20


def ask_often(shelf: Shelf, name: str, prompt: str) -> None:
    for _ in range(20):
        shelf.change(name, lambda now: now.with_pane(0, turns.asked(now.panes[0], prompt)))


def test_two_pages_on_one_conversation_both_go_on(shelf: Shelf) -> None:
    value = shelf.create(begun("a", "b"))
    shelf.change(value.id, answering(0, "Hi"))
    seen = dict(enumerate(shelf.load(value.id).panes))
    here = shelf.change(value.id, lambda now: now.with_pane(0, turns.asked(now.panes[0], "from here")), seen)
    there = shelf.change(value.id, lambda now: now.with_pane(0, turns.asked(now.panes[0], "from there")), seen)
    assert here.id == value.id
    assert (there.id == value.id, there.parent, there.title) == (False, value.id, "Hello")
    assert contents(shelf.load(here.id).panes[0]) == ["Hello", "Hi", "from here"]
    assert contents(shelf.load(there.id).panes[0]) == ["Hello", "Hi", "from there"]


def test_an_answer_whose_question_is_gone_goes_on_as_a_branch(shelf: Shelf) -> None:
    value = shelf.create(begun("a", "b"))
    shelf.change(value.id, lambda now: replace(now, panes=now.panes[:1]))
    branch = shelf.change(value.id, answering(1, "late"), {1: value.panes[1]})
    assert [contents(pane) for pane in branch.panes] == [["Hello"], ["Hello", "late"]]
    assert len(shelf.load(value.id).panes) == 1


def test_a_function_that_fails_changes_nothing_and_frees_the_lock(shelf: Shelf) -> None:
    value = shelf.create(begun())
    with pytest.raises(IndexError):
        shelf.change(value.id, answering(5, "Hi"))
    assert shelf.load(value.id) == value
    shelf.change(value.id, answering(0, "Hi"))


def test_a_title_of_ones_own_stays(shelf: Shelf) -> None:
    value = shelf.create(begun())
    assert shelf.rename(value.id, "  My \n talk ").title == "My talk"
    assert shelf.change(value.id, answering(0, "Hi")).title == "My talk"
    assert shelf.rename(value.id, "").title == "Hello"


def test_deleting_can_be_undone(shelf: Shelf) -> None:
    value = shelf.create(begun())
    shelf.delete(value.id)
    assert shelf.list() == []
    with pytest.raises(ConversationError, match=r"no conversation .* any more"):
        shelf.load(value.id)
    with pytest.raises(ConversationError, match="no conversation"):
        shelf.change(value.id, answering(0, "Hi"))
    shelf.restore(value.id)
    assert shelf.load(value.id) == value
    with pytest.raises(ConversationError, match="no conversation"):
        shelf.restore(value.id)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", "a/b", "..", ".trash/x", "x" * 300, "a\0b"])
def test_an_id_leads_nowhere_else(shelf: Shelf, name: str) -> None:
    shelf.create(begun())
    for method in (shelf.load, shelf.delete, shelf.restore):
        with pytest.raises(ConversationError):
            method(name)


def test_words_are_found_in_every_version(shelf: Shelf) -> None:
    value = shelf.create(begun(prompt='Say "Grüße"\nplease'))
    value = shelf.change(value.id, answering(0, "first answer"))
    value = shelf.change(value.id, lambda now: now.with_pane(0, turns.regenerated(now.panes[0])))
    shelf.change(value.id, answering(0, "你好世界"))
    other = shelf.create(begun(prompt="unrelated"))

    def found(text: str) -> list[str]:
        return [entry.id for entry in shelf.search(text)]

    for text in ('"GRÜSSE"', "first", "please FIRST", "世界", "answer grü"):
        assert found(text) == [value.id], text
    for text in ("content", "assistant", "first unrelated", "seedlings"):
        assert found(text) == [], text
    assert found("") == [other.id, value.id]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{",
        lambda text: "[" * 100_000,
        lambda text: "null\n",
        lambda text: text.replace('"version":1', '"version":2'),
        lambda text: text.replace('"title":"Hello"', '"title":5'),
        lambda text: text.replace('"picks":["seedling"]', '"picks":null'),
        lambda text: "{}\n",
    ],
)
def test_a_damaged_file_is_told_and_the_others_are_listed(shelf: Shelf, damage: Callable[[str], str]) -> None:
    value, fine = shelf.create(begun()), shelf.create(begun(prompt="fine"))
    path = shelf.folder / f"{value.id}.jsonl"
    path.write_text(damage(path.read_text()))
    good, bad = shelf.list()
    assert (good.id, bad.id) == (fine.id, value.id)
    assert f"{value.id}.jsonl is damaged" in bad.problem
    assert [entry.id for entry in shelf.search("fine")] == [fine.id]
    with pytest.raises(ConversationError, match="is damaged"):
        shelf.load(value.id)
    shelf.delete(value.id)
    assert len(shelf.list()) == 1


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda lines: lines[:1], "1 panes are named, 0 are there"),
        (lambda lines: [lines[0], lines[1][:20]], "Invalid JSON"),
        (lambda lines: [lines[0], '{"pick": 5}'], "pick: Input should be a valid string"),
        (lambda lines: [lines[0], '{"pick": "a", "turns": [{}]}'], r"turns\.0\.role: Field required"),
    ],
)
def test_damage_below_the_first_line_is_told_when_it_is_opened(
    shelf: Shelf, damage: Callable[[list[str]], list[str]], what: str
) -> None:
    value = shelf.create(begun())
    path = shelf.folder / f"{value.id}.jsonl"
    path.write_text("".join(f"{line}\n" for line in damage(path.read_text().splitlines())))
    with pytest.raises(ConversationError, match=what):
        shelf.load(value.id)


def test_bytes_that_are_no_text(shelf: Shelf) -> None:
    value = shelf.create(begun())
    path = shelf.folder / f"{value.id}.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Hello", b"Hello\xff"))
    assert "is damaged" in shelf.list()[0].problem
    path.write_bytes(b'{"version": 1, "title": "", "created": 1, "updated": 1, "picks": ["a"]}\nHello\xff')
    assert shelf.search("Hello") == []


def test_half_a_character_is_no_reason_to_lose_a_conversation(shelf: Shelf) -> None:
    value = shelf.create(replace(begun(prompt="a \ud83d b"), system="\udc00"))
    assert contents(value.panes[0]) == ["a ? b"]
    assert shelf.change(value.id, answering(0, "Hi"), {0: value.panes[0]}).id == value.id


def test_a_full_disk_is_told_and_the_old_conversation_stays(small_disk: Path) -> None:
    shelf = Shelf(small_disk / "conversations")
    value = shelf.create(begun())
    with pytest.raises(ConversationError, match="could not be saved: the disk is full"):
        shelf.change(value.id, answering(0, "x" * 2**19))
    assert shelf.load(value.id) == value


def test_listing_reads_no_more_than_the_first_lines(shelf: Shelf) -> None:
    value = shelf.create(begun())
    for _ in range(3):
        value = shelf.change(value.id, answering(0, "word " * 400_000))
    for number in range(200):
        (shelf.folder / f"copy-{number}.jsonl").hardlink_to(shelf.folder / f"{value.id}.jsonl")
    begun_s = time.process_time()
    assert len(shelf.list()) == 201
    assert time.process_time() - begun_s < 1  # 1.2 GB in all


def test_a_file_by_hand_needs_only_what_is_said(shelf: Shelf) -> None:
    shelf.folder.mkdir()
    head = {"version": 1, "id": "x", "title": "T", "created": 1.0, "updated": 2.0, "picks": ["a"]}
    (shelf.folder / "mine.jsonl").write_text(json.dumps(head) + '\n{"pick": "a", "turns": [{"role": "user"}]}\n')
    assert shelf.list()[0].title == "T"
    assert shelf.load("mine").id == "mine"
