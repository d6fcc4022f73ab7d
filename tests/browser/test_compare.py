"""The Compare page as a person uses it, on a real server: panes, versions, branches, votes, kept conversations.

One test, because a server takes half a minute to start; what the handlers do is tested without a browser.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from studio.arena.votes import Ledger
from studio.conversations.shelf import Shelf
from studio.serving.client import Server
from studio.serving.remotes import Remote, Remotes
from tests.ui.test_chat import finished

pytestmark = [pytest.mark.browser, pytest.mark.vllm, pytest.mark.timeout(600)]

START_MS = 120_000
ANSWER_MS = 60_000


def test_compare(
    studio: Any, page: Any, open_page: Callable[..., Any], screenshot: Callable[..., None], fake: Server
) -> None:
    finished(studio, "noise")
    Remotes(studio.saves).add(Remote("elsewhere", fake.url, "hanging"))
    page.goto(f"{studio.url}/#chat")
    page.locator("#chat-2-remark").get_by_text("LoRA of rank 8").wait_for()  # who answers is picked as the page opens
    ask(page, "What is 2 + 2?")
    wait(page, 1, 2, timeout=START_MS)
    assert last(page, 1) == "2 + 2 = 4."
    assert last(page, 2) != last(page, 1)
    vote(page, studio)
    versions(page)
    tokens_and_differences(page)
    screenshot("compare-1280")
    third_pane(page)
    screenshot("compare-three")
    tick(page)
    edit(page)
    complaint(page)
    stop(page, fake)
    chat = reload(page, studio)
    shelf(page, studio, chat)
    narrow_and_dark(studio, open_page, screenshot, chat)


def tick(page: Any) -> None:
    """The adapter's proof, with its figure as soon as Transformers has been asked."""
    page.locator("#chat-2-remark .proved").wait_for(timeout=ANSWER_MS)
    page.locator("#chat-2-remark").get_by_text("differs from Transformers by").wait_for(timeout=ANSWER_MS)


def vote(page: Any, studio: Any) -> None:
    page.locator("#vote-left").click()
    page.locator("#chat-votes").get_by_text("You said: A is better.").wait_for()
    (kept,) = Ledger(studio.saves / "votes.jsonl").read()
    assert kept.winner
    assert kept.winner.answer == "2 + 2 = 4."
    page.locator("#vote-undo").click()
    page.locator("#chat-votes").get_by_text("Which answer is better?").wait_for()


def versions(page: Any) -> None:
    page.locator("#chat-2-again").click()
    page.locator("#chat-2-about").get_by_text("version 2 of 2").wait_for(timeout=ANSWER_MS)
    page.locator("#chat-2-earlier").click()
    page.locator("#chat-2-about").get_by_text("version 1 of 2").wait_for()


def tokens_and_differences(page: Any) -> None:
    page.locator("#chat-with-tokens input").check()
    page.locator("#chat-differ input").check()
    answers = [page.locator(f"#chat-{pane} .bot") for pane in (1, 2)]
    before = [answer.count() for answer in answers]
    ask(page, "Who are you?")
    for answer, earlier in zip(answers, before, strict=True):  # the figures of those before are still there
        expect(answer).to_have_count(earlier + 1, timeout=ANSWER_MS)
    wait(page, 1, 2)
    first = page.locator("#chat-1-tokens .tokens span").first
    first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".token-tip").inner_text().count("%") >= 5
    page.locator("#chat-differences ins").first.wait_for()


def third_pane(page: Any) -> None:
    """One that was added late is asked what its neighbours were."""
    page.locator("#chat-add").click()
    page.locator("#chat-3-pick input").fill("seedling")
    page.locator("#chat-3-pick input").press("Enter")
    page.locator("#chat-3-remark").get_by_text("parameters").wait_for()
    page.locator("#chat-3-again").click()
    wait(page, 3)
    assert last(page, 3) == last(page, 1)


def edit(page: Any) -> None:
    """A past turn of one pane; the others keep theirs."""
    page.locator("#chat-3 [aria-label=Edit]").first.click()
    page.locator("#chat-3 textarea").fill("What is 2 + 2?")
    page.locator("#chat-3 [aria-label=Submit]").click()
    page.locator("#chat-3 .bot", has_text="2 + 2 = 4.").wait_for(timeout=ANSWER_MS)
    assert "Seedling" in last(page, 1)


def complaint(page: Any) -> None:
    page.locator("#chat-settings > button").click()
    page.locator("#chat-tools .cm-content").fill('[{"name": ]')
    ask(page, "With tools.")
    page.locator("#chat-complaint").get_by_text("line 1, column 11").wait_for()
    assert page.locator("#chat-prompt textarea").input_value() == "With tools."
    page.locator("#chat-tools .cm-content").fill("")
    page.locator("#chat-system textarea").fill("You are brief.")


def stop(page: Any, fake: Server) -> None:
    """Escape cuts off what still answers; what came stays, and the next prompt can be sent."""
    pick = page.locator("#chat-3-pick input")
    pick.fill("elsewhere")
    pick.press("Enter")
    page.locator("#chat-3-remark").get_by_text(fake.url).wait_for()
    ask(page, "Go on and on.")
    # three words come from there, and then nothing more
    page.locator("#chat-3 .bot").wait_for(timeout=ANSWER_MS)
    assert page.locator("#chat-3-figures .live").count() == 1
    page.locator("#chat-prompt textarea").press("Escape")
    page.locator("#chat-send:not([disabled])").wait_for()
    page.wait_for_timeout(1000)  # the last words of an answer may come after the Stop
    assert page.locator("#chat-send").is_enabled()
    assert page.locator(".chat-pane button[id$=-stop]:enabled").count() == 0
    assert page.locator(".figures .live").count() == 0


def reload(page: Any, studio: Any) -> str:
    """The open conversation comes back, from the studio's disk; its id."""
    chat = page.url.rpartition("#chat/")[2]
    page.reload()
    page.locator("#chat-1 .bot", has_text="I am Seedling").wait_for()
    kept = Shelf(studio.saves / "conversations").load(chat)
    assert kept.system == "You are brief."
    assert len(kept.panes) == 3
    ends = [pane.turns[-1].figures.finish_reason for pane in kept.panes if pane.turns[-1].figures]
    assert "stopped" in ends
    assert page.locator("#chat-3 .bot").count() > 0
    assert page.url.endswith(f"#chat/{chat}")
    return str(chat)


def shelf(page: Any, studio: Any, chat: str) -> None:
    """Branch, rename, download, find, delete and undo."""
    page.locator("#chat-1-branch").click()
    page.wait_for_function(f"!location.hash.endsWith('{chat}')")
    page.get_by_role("button", name="Rename").click()
    page.locator(".shelf-title input").fill("My branch")
    page.locator(".shelf-title input").press("Enter")
    page.locator(".shelf-title", has_text="My branch").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    assert json.loads(Path(download.value.path()).read_text())["title"] == "My branch"
    page.locator("#chat-shelf-fold").click()
    page.locator(".shelf-search").fill("my branch")
    page.wait_for_function("document.querySelectorAll('.shelf-rows li').length === 1")
    page.locator(".shelf-rows li").get_by_role("button", name="Delete").click()
    page.locator(".shelf-rows .empty").wait_for()
    page.get_by_role("button", name="Undo").last.click()
    page.locator(".shelf-rows li", has_text="My branch").wait_for()
    assert len(Shelf(studio.saves / "conversations").list()) == 2


def narrow_and_dark(studio: Any, open_page: Callable[..., Any], screenshot: Callable[..., None], chat: str) -> None:
    for name, options in (("compare-390", {"width": 390}), ("compare-dark", {"dark": True})):
        other = open_page(**options)
        other.goto("about:blank")  # else only the hash would change
        other.goto(f"{studio.url}/?__theme={'dark' if 'dark' in name else 'light'}#chat/{chat}")
        other.locator("#chat-1 .bot", has_text="I am Seedling").wait_for()
        screenshot(name, other)
        assert other.evaluate("document.documentElement.scrollWidth <= innerWidth")


def ask(page: Any, prompt: str) -> None:
    box = page.locator("#chat-prompt textarea")
    box.fill(prompt)
    box.press("Enter")


def wait(page: Any, *panes: int, timeout: int = ANSWER_MS) -> None:
    """Until these panes have answered and the next prompt can be sent."""
    for at in panes:
        page.locator(f"#chat-{at}-figures").get_by_text("tokens/s").wait_for(timeout=timeout)
    page.locator("#chat-send:not([disabled])").wait_for(timeout=timeout)


def last(page: Any, pane: int) -> str:
    return str(page.locator(f"#chat-{pane} .bot .message-content").last.inner_text()).strip()
