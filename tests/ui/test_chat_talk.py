"""What a person does to a conversation on the Compare page: it is on disk after each step, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from studio.conversations import turns
from studio.conversations.conversation import SAMPLING, Conversation, Pane, new
from studio.serving.panes import State, View
from studio.serving.remotes import Remotes
from studio.ui.context import Context
from studio.ui.tabs.chat import arrange, chats, compare, remote, sampling, setup, talk, verdict
from studio.ui.tabs.chat.setup import PANES, SET, Setup
from studio.ui.tabs.chat.talk import ASKING, COMPLAINT, HEAD, LOOK

SEND, STOP = 4, 5
CHAT, FIGURES, VERSIONS, TURN = 0, 1, 4, 5  # of a look
SKIPPED = {"__type__": "update"}
BUSY = '<span class="live">answering</span>'


def test_a_first_prompt_makes_a_conversation_and_asks_every_pane(ctx: Context) -> None:
    page = talk.on_send(ctx, "", " What is 2 + 2?\n", *given("seedling", "/other"))
    assert page[0] == ""
    assert list(page[ASKING]) == [0, 1]
    assert [page[SEND]["interactive"], page[STOP]["interactive"]] == [False, True]
    kept = talk.shelf(ctx).load(page[1])
    assert [pane.pick for pane in kept.panes] == ["seedling", "/other"]
    assert kept.title == "What is 2 + 2?"
    assert "asking" in look(page, 1)[FIGURES]
    assert look(page, 2)[CHAT] == []


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_a_blank_prompt_asks_nothing(ctx: Context, prompt: str) -> None:
    page = talk.on_send(ctx, "", prompt, *given("seedling"))
    assert page[ASKING] == {}
    assert talk.shelf(ctx).list() == []


def test_nothing_is_asked_while_somebody_answers(ctx: Context) -> None:
    busy = (BUSY, *given("seedling", "seedling")[1:])
    assert talk.on_send(ctx, "", "Hello", *busy)[ASKING] == {}
    assert talk.on_again(ctx, [0], "", *busy)[ASKING] == {}
    assert talk.shelf(ctx).list() == []


def test_tools_that_are_no_json_are_told_with_their_place_and_the_prompt_stays(ctx: Context) -> None:
    values = list(given("seedling"))
    values[PANES + 2] = '[{"type": "function",}]'
    page = talk.on_send(ctx, "", "Hello", *values)
    assert "line 1, column 22" in page[COMPLAINT]
    assert page[0] == SKIPPED
    assert page[ASKING] == {}
    assert talk.shelf(ctx).list() == []


def test_a_conversation_that_was_deleted_meanwhile_is_told(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    talk.shelf(ctx).delete(opened.id)
    assert "no conversation" in talk.on_send(ctx, opened.id, "Hello", *given("seedling"))[COMPLAINT]


def test_regenerating_keeps_the_answer_as_another_version(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/other")
    page = talk.on_again(ctx, [1], opened.id, *given("seedling", "/other"))
    assert list(page[ASKING]) == [1]
    assert [message["role"] for message in look(page, 1)[CHAT]] == ["user"]
    assert [message["role"] for message in look(page, 0)[CHAT]] == ["user", "assistant"]
    answer(ctx, opened.id, 1, "Five.")
    shown = talk.page(talk.shelf(ctx).load(opened.id))
    assert "version 2 of 2" in look(shown, 1)[3]
    assert look(shown, 1)[VERSIONS]["visible"]
    back = talk.on_version(ctx, 1, -1, opened.id, talk.LAST)
    assert look(back, 1)[CHAT][-1]["content"] == "Four."
    assert "version 1 of 2" in look(back, 1)[3]


def test_an_empty_pane_is_asked_what_its_neighbour_was(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    page = talk.on_again(ctx, [1], opened.id, *given("seedling", "/late"))
    assert list(page[ASKING]) == [1]
    assert look(page, 1)[CHAT] == [{"role": "user", "content": "What is 2 + 2?"}]
    assert talk.on_again(ctx, [0], "", *given("seedling"))[ASKING] == {}, "there is nothing to regenerate"


def test_an_edited_prompt_is_asked_anew_and_the_old_one_kept(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    page = talk.on_edit(ctx, 0, 0, "What is 2 + 3?", opened.id, *given("seedling"))
    assert list(page[ASKING]) == [0]
    pane = talk.shelf(ctx).load(opened.id).panes[0]
    assert [turn.content for turn in pane.turns] == ["What is 2 + 3?"]
    assert [turn.content for turn in turns.switched(pane, 0, 0).turns] == ["What is 2 + 2?", "Four."]


def test_a_turn_that_another_page_has_taken_away_cannot_be_edited(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    talk.shelf(ctx).change(opened.id, lambda now: now.with_pane(0, turns.cleared(now.panes[0])))
    page = talk.on_edit(ctx, 0, 0, "What is 2 + 3?", opened.id, *given("seedling"))
    assert "in another page" in page[COMPLAINT]
    assert page[ASKING] == {}


def test_where_nothing_was_said_there_is_no_branch(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    assert talk.on_branch(ctx, 1, opened.id, talk.LAST)[1] == SKIPPED
    assert talk.on_branch(ctx, 0, "", talk.LAST)[1] == SKIPPED
    assert len(talk.shelf(ctx).list()) == 1


def test_a_branch_is_a_conversation_of_its_own_up_to_the_chosen_turn(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/other", prompts=2)
    page = talk.on_branch(ctx, 0, opened.id, 1)
    branch = talk.shelf(ctx).load(page[1])
    assert branch.id != opened.id
    assert branch.parent == opened.id
    assert [len(pane.turns) for pane in branch.panes] == [2, 2]
    assert talk.shelf(ctx).load(opened.id) == opened
    assert page[-SET] == 2, "the page is set to it"
    assert len(talk.shelf(ctx).load(talk.on_branch(ctx, 0, opened.id, talk.LAST)[1]).panes[0].turns) == 4


def test_what_an_adapter_says_of_itself_is_text() -> None:
    line = talk.about(Pane("seedling"), talk.LAST, "merged, because of <img src=x onerror=alert(1)>")
    assert "<img" not in line
    assert "merged, because of &lt;img" in line


def test_a_clicked_message_chooses_its_turn(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", prompts=2)
    turn, line = talk.on_chosen(ctx, 0, 2, opened.id)
    assert turn == 2
    assert "turn 3 is chosen" in line
    assert talk.on_chosen(ctx, 0, 0, "")[0] == talk.LAST


def test_another_model_in_a_pane_begins_anew_and_the_old_one_comes_back(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    assert talk.on_pick(ctx, 0, "/other", opened.id)[CHAT] == []
    assert len(talk.on_pick(ctx, 0, "seedling", opened.id)[CHAT]) == 2
    talk.on_send(ctx, opened.id, "And now?", *given("/other"))
    pane = talk.shelf(ctx).load(opened.id).panes[0]
    assert [turn.content for turn in pane.turns] == ["And now?"]
    assert [turn.content for turn in turns.switched(pane, 0, 0).turns] == ["What is 2 + 2?", "Four."]


def test_an_opened_conversation_sets_the_whole_page(ctx: Context) -> None:
    own = replace(SAMPLING, temperature=1.5, top_k=7, seed=3)
    value = new(["seedling", "/b", "/c"])
    value = replace(
        value, system="Be brief.", panes=(value.panes[0], replace(value.panes[1], sampling=own), value.panes[2])
    )
    talk.shelf(ctx).create(value)
    page = arrange.on_show(ctx, value.id, 2, None, None, None, None)
    count, *rest = page[-SET:]
    columns, others = rest[:PANES], rest[PANES:]
    assert count == 3
    assert [column["visible"] for column in columns] == [True, True, True, False]
    read = Setup.of(count, *[0 if each == SKIPPED else each for each in others])
    assert (read.system, read.picks) == ("Be brief.", ["seedling", "/b", "/c"])
    assert [sampled for _, sampled in read.panes] == [None, own, None]
    assert "no conversation" in arrange.on_show(ctx, "gone", 2, None, None, None, None)[COMPLAINT]


def test_a_page_without_a_conversation_begins_as_the_last_one_was(ctx: Context) -> None:
    assert picks(arrange.on_show(ctx, "", 2, None, None, None, None)) == ["seedling", "seedling"]
    conversation(ctx, "seedling", "/b", "/c")
    assert picks(arrange.on_show(ctx, "", 2, None, None, None, None)) == ["seedling", "/b", "/c"]
    assert picks(arrange.on_show(ctx, "", 2, None, "/carried", None, None)) == ["seedling", "/carried"]


def test_a_new_conversation_keeps_who_answers(ctx: Context) -> None:
    page = arrange.on_new()
    assert page[1] == ""
    assert all(look(page, at)[CHAT] == [] for at in range(PANES))
    assert all(value == SKIPPED for value in page[-SET:])


def test_a_pane_more_and_a_pane_less(ctx: Context) -> None:
    count, *rest = arrange.on_add(ctx, 2, "seedling", "/b", None, None)
    assert count == 3
    assert [column["visible"] for column in rest[:PANES]] == [True, True, True, False]
    assert rest[PANES + 2] == "seedling"
    opened = conversation(ctx, "seedling", "/b", "/c")
    page = arrange.on_remove(ctx, 1, opened.id, *given("seedling", "/b", "/c"))
    branch = talk.shelf(ctx).load(page[1])
    assert [pane.pick for pane in branch.panes] == ["seedling", "/c"]
    assert all(len(pane.turns) == 2 for pane in branch.panes)
    assert talk.shelf(ctx).load(opened.id) == opened
    assert arrange.on_remove(ctx, 0, "", *given("seedling"))[-SET] == SKIPPED, "one pane stays"


def test_what_another_page_has_added_stays(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/b", "/c")
    talk.on_send(ctx, opened.id, "And?", *given("seedling", "/b"))
    panes = talk.shelf(ctx).load(opened.id).panes
    assert [len(pane.turns) for pane in panes] == [3, 3, 2]


def test_counted_panes_can_be_added_taken_away_and_compared() -> None:
    add, *removes, left, right, pair, watched = compare.on_fit(1, "seedling", "/kept/for/later")
    assert json.loads(watched)["picks"] == ["seedling"]
    assert add["interactive"]
    assert not any(remove["interactive"] for remove in removes)
    assert (left["value"], right["value"], pair["visible"]) == ("A", "A", False)
    add, *removes, left, right, pair, _ = compare.on_fit(4, *[None] * 4)
    assert not add["interactive"]
    assert right["choices"] == ["A", "B", "C", "D"]
    assert (right["value"], pair["visible"]) == ("B", True)


def test_votes_are_asked_for_once_both_have_answered_kept_changed_and_taken_back(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/b")
    row, text, left, _, undo = rest(ctx, opened)[2:7]
    assert row["visible"]
    assert "Which answer is better?" in text
    assert left["value"] == "A is better"
    assert not undo["visible"]
    assert "You said: B is better." in verdict.on_vote(ctx, "right", opened.id, "A", "B")[1]
    verdict.on_vote(ctx, "both_bad", opened.id, "A", "B")
    (vote,) = verdict.ledger(ctx).read()
    assert (vote.outcome, vote.source, vote.blind) == ("both_bad", "compare", False)
    assert [message["content"] for message in vote.messages] == ["What is 2 + 2?"]
    assert (vote.left.answer, vote.right.pick) == ("Four.", "/b")
    assert "Which answer is better?" in verdict.on_unvote(ctx, opened.id, "A", "B")[1]
    assert verdict.ledger(ctx).read() == []


def test_a_vote_that_cannot_be_written_is_told(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/b")
    verdict.ledger(ctx).path.mkdir()
    assert "could not be written" in verdict.on_vote(ctx, "tie", opened.id, "A", "B")[1]
    assert "could not be written" in verdict.on_unvote(ctx, opened.id, "A", "B")[1]


def test_there_is_nothing_to_vote_on_while_answers_are_missing_or_the_same_pane(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/b")
    assert not rest(ctx, opened, lines=[BUSY])[2]["visible"]
    assert not rest(ctx, opened, pair=("A", "A"))[2]["visible"]
    assert not rest(ctx, opened, pair=("A", "D"))[2]["visible"]
    talk.on_again(ctx, [0], opened.id, *given("seedling", "/b"))
    assert not rest(ctx, opened)[2]["visible"]
    assert not verdict.on_rest(ctx, "", "A", "B", False)[2]["visible"]


def test_send_comes_back_when_the_last_pane_has_answered(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/b")
    send, stop = rest(ctx, opened, lines=["", BUSY])[:2]
    assert (send["interactive"], stop["interactive"]) == (False, True)
    send, stop = rest(ctx, opened, lines=talk.on_stop("", BUSY)[:2])[:2]
    assert (send["interactive"], stop["interactive"]) == (True, False)


def test_versions_can_be_leafed_through_after_a_stop(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    talk.on_again(ctx, [0], opened.id, *given("seedling"))
    line, stop = talk.on_stop(BUSY)
    assert "stopped" in line
    assert not stop["interactive"]

    async def cut() -> list[Any]:
        looked = asyncio.create_task(talk.on_cut(ctx, 0, opened.id, line))
        await asyncio.sleep(0.2)  # what came of the answer goes to the disk after the stop
        half = turns.answered(talk.shelf(ctx).load(opened.id).panes[0], View(State.STREAMING, "Half").stopped())
        talk.shelf(ctx).change(opened.id, lambda now: now.with_pane(0, half))
        return await looked

    about, row = asyncio.run(cut())
    assert "version 2 of 2" in about
    assert row["visible"]


def test_differences_are_shown_when_wanted(ctx: Context) -> None:
    opened = conversation(ctx, "seedling", "/b")
    assert not rest(ctx, opened)[-1]["visible"]
    shown = verdict.on_rest(ctx, opened.id, "A", "B", True, "", "")[-1]
    assert shown["visible"]
    assert "same answer" in shown["value"]


def test_the_shelf_lists_finds_and_exports(ctx: Context) -> None:
    assert chats.on_shelf(ctx, "") == {"title": "", "count": 0, "entries": [], "more": 0}
    first = conversation(ctx, "seedling")
    second = conversation(ctx, "seedling", "/b", prompt="Name a cat.")
    listed = chats.on_shelf(ctx, second.id)
    assert (listed["title"], listed["count"]) == ("Name a cat.", 2)
    assert [entry["id"] for entry in listed["entries"]] == [second.id, first.id]
    assert listed["entries"][0]["who"] == "seedling, b"
    assert [entry["id"] for entry in chats.on_shelf(ctx, "", "cat")["entries"]] == [second.id]
    assert chats.on_shelf(ctx, "", is_open=False)["entries"] == []
    file = chats.on_download(ctx, second.id, "md")
    assert file["name"] == "Name-a-cat.md"
    assert "**User:**\n\nName a cat." in file["text"]
    assert json.loads(chats.on_download(ctx, second.id, "json")["text"])["panes"][1]["pick"] == "/b"


def test_a_damaged_conversation_is_listed_with_what_is_wrong(ctx: Context) -> None:
    opened = conversation(ctx, "seedling")
    (ctx.settings.saves_dir / "conversations" / f"{opened.id}.jsonl").write_text("{half\n")
    (entry,) = chats.on_shelf(ctx, "")["entries"]
    assert "is damaged" in entry["problem"]
    assert "is damaged" in arrange.on_show(ctx, opened.id, 2, None, None, None, None)[COMPLAINT]


def test_adding_a_server_elsewhere(ctx: Context) -> None:
    assert remote.on_wanted(2, "url:", 0)[0]["visible"]
    assert remote.on_wanted(2, "seedling", 0) == (SKIPPED, SKIPPED)
    form, told, *picked = remote.on_add(ctx, 1, "http://shed:8000/v1", "", "big", "")
    assert (form["visible"], told) == (False, "")
    assert [update.get("value") for update in picked] == [None, "url:shed 8000", None, None]
    assert [each.url for each in Remotes(ctx.store.saves).list()] == ["http://shed:8000"]


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [("shed:8000", "", "http://host:port"), ("http://shed", "sk-123-456", "never the key itself")],
    ids=["no address", "a key pasted"],
)
def test_what_is_wrong_with_a_server_elsewhere_is_told(ctx: Context, url: str, key: str, words: str) -> None:
    told = remote.on_add(ctx, 0, url, key, "big", "shed")[1]
    assert words in told
    assert "sk-123" not in told
    assert Remotes(ctx.store.saves).list() == []


def test_the_form_of_a_server_elsewhere_goes_when_another_one_is_picked_in_its_pane(ctx: Context) -> None:
    assert remote.on_wanted(2, "seedling", 2) == ({**SKIPPED, "visible": False}, SKIPPED)
    page = talk.on_send(ctx, "", "Hello", *given("seedling", "url:"))
    assert "answer in pane B" in page[COMPLAINT]
    assert page[0] == SKIPPED
    again = talk.on_again(ctx, range(PANES), "", *given("seedling", ""))
    assert "answer in pane B" in again[COMPLAINT]
    assert talk.on_again(ctx, range(PANES), "", *given("seedling"))[COMPLAINT] == ""
    talk.shelf(ctx).create(new(("seedling", "url:")))
    assert "url:" not in arrange.on_show(ctx, "", 2, None, None, None, None)


def test_a_server_elsewhere_that_is_not_there_is_told() -> None:
    choices, told = asyncio.run(remote.on_find("http://127.0.0.1:9", ""))
    assert choices == SKIPPED
    assert "http://127.0.0.1:9" in told


def test_a_sampling_survives_its_widgets() -> None:
    drawn = replace(SAMPLING, temperature=0.3, top_k=5, min_p=0.1, seed=9, max_tokens=None, enable_thinking=False)
    assert sampling.read(*sampling.write(drawn)) == drawn


def given(*picked: str) -> tuple[Any, ...]:
    """What the page gives its handlers at last: nobody answers, the picks are set, all else is as at first."""
    drawn = sampling.write(SAMPLING)
    panes = [(pick, False, *drawn) for pick in (*picked, *[""] * (PANES - len(picked)))]
    return (*[""] * PANES, len(picked), None, "", False, *drawn, *(value for pane in panes for value in pane))


def look(page: list[Any], at: int) -> list[Any]:
    return page[HEAD + LOOK * at : HEAD + LOOK * (at + 1)]


def picks(page: list[Any]) -> list[Any]:
    """Who is picked in the panes that the page is set to."""
    count, first = page[-SET], len(page) - setup.OWN * PANES
    return [page[first + setup.OWN * at] for at in range(count)]


def rest(ctx: Context, opened: Conversation, lines: Any = (), pair: tuple[str, str] = ("A", "B")) -> list[Any]:
    return verdict.on_rest(ctx, opened.id, *pair, False, *lines)


def conversation(ctx: Context, *picked: str, prompt: str = "What is 2 + 2?", prompts: int = 1) -> Conversation:
    """One on disk in which every pane has answered `prompts` times, always the same."""
    value = new(picked)
    for _ in range(prompts):
        value = replace(value, panes=tuple(_answered(turns.asked(pane, prompt)) for pane in value.panes))
    return talk.shelf(ctx).create(value)


def answer(ctx: Context, chat_id: str, at: int, text: str) -> None:
    talk.shelf(ctx).change(chat_id, lambda now: now.with_pane(at, _answered(now.panes[at], text)))


def _answered(pane: Pane, text: str = "Four.") -> Pane:
    return turns.answered(pane, View(State.DONE, text, tokens=2, finish_reason="stop"))
