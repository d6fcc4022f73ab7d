"""The Train form outlives its page: what was typed is there again after a reload and a restart, until it is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Studio, open_tab, restart_below
from tests.browser.test_training import choose, find

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
KEY = "seedbed:train"
TEXTS = {"run_name": "春 fern", "max_steps": "12", "learning_rate": "0.003"}


def kept(page: Page) -> dict[str, object]:
    values: dict[str, object] = json.loads(page.evaluate(f"localStorage.getItem('{KEY}') ?? '{{}}'"))
    return values


def fill(page: Page, key: str, value: str) -> None:
    page.locator(f"#option-{key}").locator("input, textarea").first.fill(value)


def expect_value(page: Page, key: str, value: str) -> None:
    expect(page.locator(f"#option-{key}").locator("input, textarea").first).to_have_value(value)


def type_much(page: Page) -> None:
    """Into a text, whole and broken numbers, a choice, a list of datasets, and a box behind "More"."""
    choose(page, "dataset", "sharegpt_demo")
    choose(page, "dataset", "alpaca_demo")
    choose(page, "finetuning_type", "full")
    for key, value in TEXTS.items():
        fill(page, key, value)
    find(page, "resize_vocab")
    page.locator("#option-resize_vocab input").check()


def expect_much(page: Page) -> None:
    for key, value in TEXTS.items():
        expect_value(page, key, value)
    expect_value(page, "finetuning_type", "full")
    expect(page.locator("#option-dataset .token")).to_have_text(["sharegpt_demo", "alpaca_demo"])
    expect(page.locator("#train-verdict")).to_contain_text("12 steps")
    expect(page.locator("#option-section-lora")).to_be_hidden()
    find(page, "resize_vocab")
    expect(page.locator("#option-resize_vocab input")).to_be_checked()


def expect_defaults(page: Page) -> None:
    expect_value(page, "run_name", "")
    expect_value(page, "max_steps", "-1")
    expect_value(page, "finetuning_type", "lora")
    expect(page.locator("#option-dataset .token")).to_have_count(0)
    expect(page.locator("#train-verdict")).to_contain_text("Not ready")
    expect(page.locator("#train-told .kept")).to_have_count(0)


def test_a_form_is_there_again_after_a_reload_until_it_is_dropped(
    page: Page, studio: Studio, screenshot: Callable[..., None]
) -> None:
    page.goto(f"{studio.url}/#train")
    type_much(page)
    page.wait_for_function(f"'resize_vocab' in JSON.parse(localStorage.getItem('{KEY}') ?? '{{}}')")
    assert set(kept(page)) == {*TEXTS, "dataset", "finetuning_type", "resize_vocab"}
    page.reload()
    expect(page.locator("#train-told .kept")).to_have_text("Kept from before · Start afresh")
    expect_much(page)
    screenshot("train-kept")
    page.goto("about:blank")
    page.goto(studio.url)  # on another tab: the form is filled while it is out of sight
    open_tab(page, "Train")
    expect_much(page)
    page.locator("#train-afresh").click()
    expect_defaults(page)
    assert kept(page) == {}
    page.reload()
    expect_defaults(page)


def test_a_form_is_there_again_after_a_restart(page: Page, studio: Studio, faults: list[str]) -> None:
    page.goto(f"{studio.url}/#train")
    type_much(page)
    page.wait_for_function(f"'resize_vocab' in JSON.parse(localStorage.getItem('{KEY}') ?? '{{}}')")
    restart_below(page, studio)
    expect_much(page)
    faults.clear()  # what the page said while its studio was away
    page.reload()
    expect_much(page)


def test_what_cannot_be_read_of_a_kept_form_is_told_and_the_page_works(
    page: Page, studio: Studio, screenshot: Callable[..., None]
) -> None:
    faulty = {"option_of_last_year": 1, "stage": "ppo", "bf16": "maybe", "dataset": ["alpaca_demo"], "max_steps": 7}
    page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, json.dumps(faulty)])
    page.goto("about:blank")
    page.goto(f"{studio.url}/#train")
    told = page.locator("#train-told")
    for key in ("option_of_last_year", "stage", "bf16"):
        expect(told.locator("li", has_text=key)).to_be_visible()
    expect_value(page, "stage", "sft")
    expect(page.locator("#train-verdict")).to_contain_text("7 steps")
    screenshot("train-kept-faulty")
    fill(page, "max_steps", "8")
    expect(page.locator("#train-verdict")).to_contain_text("8 steps")
    assert kept(page) == {"dataset": ["alpaca_demo"], "max_steps": 8}
    page.evaluate(f"localStorage.setItem('{KEY}', '{{torn')")
    page.reload()
    expect(told).to_contain_text("cannot be read")
    page.locator("#train-afresh").click()
    expect_defaults(page)
    page.reload()
    expect_defaults(page)


def test_of_two_pages_the_one_that_typed_last_is_kept(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}/#train")
    fill(page, "run_name", "first")
    page.wait_for_function(f"localStorage.getItem('{KEY}')?.includes('first')")
    with page.expect_popup() as opened:
        page.evaluate(f"window.open('{studio.url}/#train')")
    other = opened.value
    expect_value(other, "run_name", "first")
    fill(other, "run_name", "second")
    other.wait_for_function(f"localStorage.getItem('{KEY}')?.includes('second')")
    open_tab(page, "Datasets")
    open_tab(page, "Train")  # a look at the form, nothing typed
    page.wait_for_timeout(1000)
    assert kept(page) == {"run_name": "second"}
    fill(page, "max_steps", "5")
    page.wait_for_function(f"localStorage.getItem('{KEY}')?.includes('max_steps')")
    assert kept(page) == {"run_name": "first", "max_steps": 5}
    expect_value(other, "run_name", "second")


def test_a_run_taken_up_again_goes_before_what_was_kept(page: Page, studio: Studio) -> None:
    """A preset, a file, a run: what fills the form is what is kept from then on, and the line of before goes."""
    page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, '{"max_steps":12}'])
    page.goto("about:blank")
    page.goto(f"{studio.url}/#train")
    expect(page.locator("#train-told .kept")).to_be_visible()
    choose_preset(page, "identity")
    expect(page.locator("#train-verdict")).to_contain_text("8 epochs")
    expect(page.locator("#train-told .kept")).to_have_count(0)
    page.reload()
    expect(page.locator("#train-verdict")).to_contain_text("8 epochs")
    expect_value(page, "max_steps", "-1")


def choose_preset(page: Page, name: str) -> None:
    page.locator("#train-preset input").click()
    page.get_by_role("option", name=name, exact=True).click()


def test_the_line_is_said_in_chinese(chromium: object, studio: Studio, screenshot: Callable[..., None]) -> None:
    page = chromium.new_page(locale="zh-CN", viewport={"width": 1280, "height": 900})  # type: ignore[attr-defined]
    page.goto(studio.url)
    page.evaluate("([key, text]) => localStorage.setItem(key, text)", [KEY, '{"max_steps":12}'])
    page.goto(f"{studio.url}/?__theme=dark#train")
    expect(page.locator("#train-told .kept")).to_contain_text("重新开始")
    screenshot("train-kept-zh", page)
    page.close()
