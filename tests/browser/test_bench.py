"""The Benchmark page: a real measurement from the click to the table, looked at on a phone, stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from studio.runs.run import State
from tests.browser.conftest import Studio, open_tab

pytestmark = pytest.mark.browser

SOON_MS = 90_000


def open_bench(page: Page) -> None:
    open_tab(page, "Chat")
    open_tab(page, "Benchmark", "#chat-tabs")


def fill(page: Page, key: str, value: str) -> None:
    field = page.locator(f"#bench-{key} textarea, #bench-{key} input")
    field.fill(value)
    field.blur()


def choose_only(page: Page, variant: str) -> None:
    for _ in range(3):
        page.locator("#bench-variants .token-remove").first.click()
    page.locator("#bench-variants input").click()
    page.get_by_role("option", name=variant).click()
    page.keyboard.press("Escape")


def test_measured_watched_and_compared(
    studio: Studio, page: Page, open_page: Callable[..., Page], screenshot: Callable[..., None]
) -> None:
    open_bench(page)
    page.get_by_text("Nothing was measured yet").wait_for()
    choose_only(page, "Transformers generate, one by one")
    for key, value in (("concurrency", "1,2"), ("prompt_tokens", "16"), ("output_tokens", "8")):
        fill(page, key, value)
    page.get_by_text("4 measurements").wait_for()
    page.locator("#bench-start").click()
    page.locator("#bench-results .badge.completed").wait_for(timeout=SOON_MS)
    [run] = studio.store.list("bench")
    assert run.state is State.COMPLETED
    rows = page.locator("#bench-results tbody tr")
    assert [row.locator("td").nth(1).inner_text() for row in rows.all()] == ["1", "2"]
    page.locator("#bench-results .bench-plot .main-svg").first.wait_for()
    screenshot("bench")
    phone = open_page(width=390, dark=True)
    open_bench(phone)
    phone.locator("#bench-results tbody tr").first.wait_for(timeout=SOON_MS)
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot("bench-phone-dark", phone)


def test_stopped_from_the_page(studio: Studio, page: Page) -> None:
    open_bench(page)
    choose_only(page, "Transformers generate, one by one")
    fill(page, "output_tokens", "500")
    page.get_by_text("Ready", exact=True).wait_for()
    page.locator("#bench-start").click()
    page.locator("#bench-stop").click(timeout=SOON_MS)
    page.locator("#bench-results .badge.stopped").wait_for(timeout=10_000)
    [run] = studio.store.list("bench")
    assert run.state is State.STOPPED
