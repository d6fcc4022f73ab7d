"""The Arena page in a browser: blind votes by keyboard, and the loop from votes to a model that learnt of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from safetensors.numpy import save_file

from studio import models
from studio.arena.battles import Arena
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs import events
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving.remotes import Remote, Remotes
from studio.settings import ASSETS, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SEEDLING = ASSETS / "seedling"
MINUTE_MS = 60_000
PROMPTS = "Who are you?\n[colours] Name a colour.\n[colours] What is green?\nSay hello."


@pytest.fixture
def debaters(studio: Any) -> Iterator[None]:
    """Two servers elsewhere, whose names say nothing of their answers."""
    command = [sys.executable, str(ROOT / "tests" / "fakes" / "debaters.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        for name, model in (("willow", "short"), ("hazel", "model")):
            Remotes(studio.saves).add(Remote(name, url, model))
        yield
        child.kill()


def look_in(page: Any) -> None:
    """Go to the Arena page by its address; the question mark makes it a new one."""
    page.goto(f"{page.url.partition('#')[0]}&arena#chat/arena")


def set_up(page: Any, *picks: str) -> None:
    """Say who is to meet."""
    look_in(page)
    page.locator("#arena-start").wait_for()
    box = page.locator("#arena-contestants input")
    for pick in picks:
        box.fill(pick)
        box.press("Enter")
    page.locator("#arena-prompts textarea").fill(PROMPTS)


def begin(page: Any, within_ms: int = MINUTE_MS) -> None:
    page.locator("#arena-start").click()
    page.locator("#arena-vote-left").wait_for(timeout=within_ms)


def votes(run: Run) -> list[str]:
    return [vote.outcome for vote in Arena.of(run).ledger.read()]


def test_a_blind_vote_by_keyboard(studio: Any, page: Any, debaters: None, open_page: Any, screenshot: Any) -> None:
    set_up(page, "url:willow", "url:hazel")
    screenshot("arena-1-setup")
    begin(page)
    screenshot("arena-2-battle")
    (run,) = studio.store.list("arena")
    count = page.locator(".arena-count")
    for place in ("#arena-head", "#arena-sides", "#arena-ballot", "#arena-last-row"):
        seen = page.locator(place).evaluate("it => it.outerHTML")
        assert "willow" not in seen
        assert "hazel" not in seen
    expect(count).to_have_text("Battle 1 of 4")
    page.keyboard.press("1")
    expect(count).to_have_text("Battle 2 of 4 · colours")
    assert votes(run) == ["left"], "the vote was on disk before the page moved on"
    expect(page.locator("#arena-last")).to_contain_text("willow")
    page.keyboard.press("u")
    expect(count).to_have_text("Battle 1 of 4")
    assert votes(run) == []
    page.keyboard.press("4")
    expect(count).to_have_text("Battle 2 of 4 · colours")
    page.keyboard.press("s")
    expect(page.locator("#arena-head")).to_contain_text("What is green?")
    page.reload()
    expect(count).to_have_text("Battle 2 of 4 · colours")
    for key, then in (("1", "Battle 3 of 4"), ("2", "Battle 4 of 4"), ("3", "All 4 battles have your vote")):
        page.keyboard.press(key)
        expect(page.locator("#arena-head")).to_contain_text(then)
    assert votes(run) == ["both_bad", "left", "right", "tie"]
    expect(page.locator("#arena-results")).to_contain_text("willow against hazel")
    screenshot("arena-3-results")
    narrow = open_page(width=390, dark=True)
    look_in(narrow)
    narrow.locator("#arena-undo").click()
    narrow.locator("#arena-vote-left").wait_for()
    screenshot("arena-4-narrow", narrow)
    assert narrow.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


@pytest.mark.vllm
def test_votes_teach_a_model(studio: Any, page: Any, screenshot: Any) -> None:
    adapter(studio.store)
    set_up(page)  # the page proposes the newest adapter and its base
    expect(page.locator("#arena-contestants .token")).to_have_count(2)
    page.locator("#arena-section-sampling").click()
    page.locator("#arena-max_new_tokens input").fill("24")
    begin(page, within_ms=3 * MINUTE_MS)
    (run,) = studio.store.list("arena")
    prefer(page, run, "seedling")
    page.locator("#arena-name textarea, #arena-name input").fill("liked")
    page.locator("#arena-make").click()
    page.locator("#arena-train").click()
    train(page, screenshot)
    (trained,) = [each for each in studio.store.list("train") if each.config.stage == "dpo"]
    assert trained.config.dataset == ("liked",)
    found, _ = events.read(trained.metrics)
    margins = [each["metrics"]["rewards/margins"] for each in found if each["type"] == "step"]
    assert margins[-1] > margins[0] + 0.1
    chat(page, trained)
    screenshot("arena-6-chat")


def prefer(page: Any, run: Run, pick: str) -> None:
    """Vote for the answers of `pick`, which the page does not tell, but for those that say the same."""
    arena = Arena.of(run)
    page.locator("#arena-progress .badge.completed").wait_for(timeout=MINUTE_MS)
    for number, battle in enumerate(arena.battles, 1):
        side = "left" if battle.left.contestant == pick else "right"
        count = page.locator(".arena-count")
        before = count.inner_text()
        page.locator(f"#arena-vote-{side}").click()
        expect(page.locator("#arena-last")).to_contain_text("seedling")
        while len(arena.ledger.read()) < number:
            page.wait_for_timeout(20)
        if number < len(arena.battles):  # another click before the page has moved on is none of the next battle
            expect(count).not_to_have_text(before)


def train(page: Any, screenshot: Any) -> None:
    """Start what the page has prepared, for some more epochs."""
    # by its name a doubt about its rows may stand there too: the answers are drawn by chance
    page.locator("#train-verdict").get_by_text("liked", exact=True).first.wait_for()
    page.locator("#option-num_train_epochs input").fill("12")
    page.locator("#option-num_train_epochs input").press("Tab")
    page.locator("#train-verdict").get_by_text("12 epochs").wait_for()  # with it comes the question below, or none
    screenshot("arena-5-train")
    anyway = page.locator("#train-anyway input")
    if anyway.is_visible():
        anyway.check()
    page.locator("#train-start:not([disabled])").click()
    page.locator("#run-status .badge.completed").wait_for(timeout=4 * MINUTE_MS)


def chat(page: Any, run: Run) -> None:
    """Talk to what was trained."""
    page.locator("#run-chat").click()
    box = page.locator("#chat-prompt textarea")
    box.fill("Who are you?")
    box.press("Enter")
    page.locator("#chat-2-figures").get_by_text("finished").wait_for(timeout=3 * MINUTE_MS)
    assert page.locator("#chat-2 .bot").last.inner_text()


def adapter(store: Store) -> None:
    """An adapter as a finished training leaves it, with weights drawn by chance: another model than its base."""
    run = store.create(TrainConfig(model_name_or_path="seedling", dataset=("identity",), run_name="fern"))
    folder, chance = run.path / "adapter", np.random.default_rng(0)
    folder.mkdir()
    name = "model.layers.0.self_attn.o_proj"
    lines, columns = models.read_header(SEEDLING / "model.safetensors")[f"{name}.weight"]["shape"]
    weights = {"lora_A": chance.normal(0, 0.3, (8, columns)), "lora_B": chance.normal(0, 0.3, (lines, 8))}
    named = {f"base_model.model.{name}.{part}.weight": value.astype(np.float32) for part, value in weights.items()}
    save_file(named, folder / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "target_modules": ["o_proj"]}
    write_json(folder / "adapter_config.json", {**facts, "base_model_name_or_path": str(SEEDLING)})
    write_json(folder / "base.json", {"name": "seedling", "path": str(SEEDLING)})
    write_json(run.path / "result.json", {"output": "adapter"})
    write_json(run.path / "exit.json", {"code": 0, "reason": "completed"})
