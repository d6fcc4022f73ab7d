"""The panels of a dataset as a person uses them, and the whole way: a file with faults, its repair, its tokens, a
training on it. A real studio, a real browser, real work in processes of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Studio, held, open_tab

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
MINUTE_MS = 60_000
EVIL = '<img src=x onerror="window.pwned = 1"><script>window.pwned = 2</script>'


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Rows with columns of unusual names; one has no answer, one lacks it, one holds markup."""
    rows = [
        {"frage": f"Who lives in house {n}?", "antwort": " ".join([f"House {n} belongs to Fern."] * (n % 4 + 1))}
        for n in range(40)
    ]
    rows[6]["antwort"] = ""
    rows[11] = {"frage": "Who is missing?"}
    rows[20]["frage"] = EVIL
    path = tmp_path / "houses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def line(page: Page, name: str) -> Locator:
    return page.locator(f'#datasets-table tr[data-name="{name}"]')


def choose(page: Page, name: str, panel: str) -> None:
    line(page, name).click()
    open_panel(page, panel)


def open_panel(page: Page, name: str) -> None:
    page.locator(f"#data-panel-{name}-button").click()


def test_from_a_file_with_faults_to_a_training(
    page: Page, studio: Studio, faulty: Path, screenshot: Callable[..., None]
) -> None:
    register(page, faulty)
    check(page, screenshot)
    repair(page, studio, screenshot)
    look_at_tokens(page, screenshot)
    train(page, studio, screenshot)
    assert page.evaluate("window.pwned") is None


def register(page: Page, path: Path) -> None:
    page.set_input_files("#data-file input[type=file]", path)
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("belongs to Fern")
    page.locator("#data-response input").click()
    page.get_by_role("option", name="frage", exact=True).click()
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Who lives in house 0?")
    page.locator("#data-response input").click()
    page.get_by_role("option", name="antwort", exact=True).click()
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("belongs to Fern")
    page.locator("#data-register").click()
    expect(line(page, "houses")).to_have_attribute("aria-selected", "true")


def check(page: Page, screenshot: Callable[..., None]) -> None:
    """The findings name the rows, and lead to them."""
    open_panel(page, "checks")
    checks = page.locator("#data-checks")
    expect(checks.locator("#data-check")).to_be_visible()
    checks.locator("#data-check").click()
    expect(checks.locator(".finding[data-code=missing_field]")).to_contain_text("row 12", timeout=MINUTE_MS)
    expect(checks.locator(".panel-figures")).to_contain_text("40 rows · 38 usable")
    screenshot("data-checks")
    checks.locator(".finding[data-code=empty_field] .row-link").click()
    expect(page.locator("#data-rows h4").first).to_contain_text("Row 7")


def repair(page: Page, studio: Studio, screenshot: Callable[..., None]) -> None:
    """One click writes a new set, which is opened; the old file stays as it is."""
    open_panel(page, "checks")
    page.locator("#data-repair").click()
    expect(line(page, "houses-repaired")).to_have_attribute("aria-selected", "true", timeout=MINUTE_MS)
    expect(page.locator("#data-notice .card")).to_have_count(0)
    assert len((studio.data / "houses.jsonl").read_text().splitlines()) == 40
    expect(page.locator("#data-checks .card.good")).to_have_text("Nothing wrong found in 38 rows.", timeout=MINUTE_MS)
    screenshot("data-checks-good")
    page.locator("#data-share").fill("60")
    page.locator("#data-near").click()
    expect(page.locator("#data-checks .panel-figures")).to_contain_text("searched from 60%", timeout=MINUTE_MS)


def look_at_tokens(page: Page, screenshot: Callable[..., None]) -> None:
    """What is trained is coloured; every token says its id, by pointer and by keyboard; settings change the view."""
    open_panel(page, "masks")
    masks = page.locator("#data-masks")
    expect(masks.locator(".tokens .token.trained").first).to_be_visible(timeout=MINUTE_MS)
    trained = "".join(masks.locator(".tokens .token.trained").all_inner_texts())
    assert trained == "House 0 belongs to Fern.<|im_end|>"
    expect(masks.locator(".tokens .token.special").first).to_have_text("<|im_start|>")
    assert "· id " in str(masks.locator(".tokens .token").nth(2).get_attribute("title"))
    masks.locator(".tokens .token").first.focus()
    page.keyboard.press("ArrowRight")
    expect(masks.locator(".mask-detail")).to_contain_text("Token 2 /")
    page.locator("#mask-cutoff_len input").fill("12")
    expect(masks.locator(".tokens .token.cut").first).to_be_visible()
    screenshot("data-masks")
    masks.get_by_role("button", name="Next row").click()
    expect(masks.locator(".mask-view")).to_have_attribute("data-row", "2")
    masks.locator("input.short").fill("19")
    masks.locator("input.short").press("Enter")
    expect(masks.locator(".tokens")).to_contain_text("onerror")
    open_panel(page, "statistics")
    expect(page.locator("#measure-cutoff_len input")).to_have_value("12")


def train(page: Page, studio: Studio, screenshot: Callable[..., None]) -> None:
    page.locator("#data-train").click()
    expect(page.locator("#train-verdict")).to_contain_text("houses-repaired")
    for key, value in {"max_steps": "3", "cutoff_len": "64", "gradient_accumulation_steps": "1"}.items():
        page.locator(f"#option-{key} input").fill(value)
    expect(page.locator("#train-verdict")).to_contain_text("3 steps")
    screenshot("data-train")
    page.locator("#train-start").click()
    page.locator("#run-status .badge.completed").wait_for(timeout=3 * MINUTE_MS)
    [run] = studio.store.list("train")
    assert run.config.dataset == ("houses-repaired",)


@pytest.fixture
def doubtful(page: Page, studio: Studio) -> Page:
    """The Train tab with a set that has an empty answer, and what is said of it."""
    (studio.data / "gaps.jsonl").write_text(
        '{"instruction": "A?", "output": "B."}\n{"instruction": "C?", "output": ""}\n'
    )
    known = json.loads((studio.data / "dataset_info.json").read_text())
    (studio.data / "dataset_info.json").write_text(json.dumps({**known, "gaps": {"file_name": "gaps.jsonl"}}))
    line(page, "gaps").click()
    page.locator("#data-train").click()
    expect(page.locator("#train-verdict")).to_contain_text("Fields that are empty (1)")
    return page


def test_a_doubtful_set_is_asked_about(doubtful: Page) -> None:
    """Warnings hold the start button until a person has said that it is meant so; another set takes the answer back."""
    page = doubtful
    expect(page.locator("#train-start")).to_be_disabled()
    page.locator("#train-anyway input").check()
    expect(page.locator("#train-start")).to_be_enabled()
    open_tab(page, "Datasets")
    choose(page, "alpaca_demo", "rows")
    page.locator("#data-train").click()
    expect(page.locator("#train-verdict")).to_contain_text("Ready")
    expect(page.locator("#train-anyway")).to_be_hidden()


def test_an_answer_that_is_given_during_a_look_stays(doubtful: Page) -> None:
    """What the look says came to mind before the tick: it does not take it back."""
    page = doubtful
    with held(page, "Fields that are empty") as waiting:
        page.locator("#option-max_steps input").fill("3")
        while not waiting:
            page.wait_for_timeout(50)
        page.locator("#train-anyway input").check()
    expect(page.locator("#train-verdict")).to_contain_text("3 steps")
    expect(page.locator("#train-start")).to_be_enabled()
    expect(page.locator("#train-anyway input")).to_be_checked()


def test_settings_that_are_typed_in_haste_are_those_of_both_panels(page: Page) -> None:
    choose(page, "alpaca_demo", "masks")
    field = page.locator("#mask-cutoff_len input")
    with held(page) as waiting:
        field.fill("3")
        page.wait_for_timeout(500)
        assert waiting
        field.fill("33")
        page.wait_for_timeout(500)
    open_panel(page, "statistics")
    expect(page.locator("#measure-cutoff_len input")).to_have_value("33")


def test_statistics_follow_the_cutoff_line(page: Page, screenshot: Callable[..., None]) -> None:
    choose(page, "sharegpt_demo", "statistics")
    panel = page.locator("#data-statistics")
    panel.locator("#data-measure").click()
    expect(panel.locator("[data-plot=lengths] .main-svg").first).to_be_visible(timeout=MINUTE_MS)
    told = panel.locator(".cutoff-line p")
    expect(told).to_contain_text("At 2,048 tokens, 0 of")
    panel.locator(".cutoff-line input.short").fill("40")
    expect(told).to_contain_text(re.compile(r"At 40 tokens, [1-9]\d* of \d+ rows are cut"))
    line_at = "document.querySelector('[data-plot=lengths]').layout.shapes[0].x0"
    assert page.evaluate(line_at) == 40
    steps = panel.locator("#data-steps b")
    before = steps.inner_text()
    panel.locator("#data-steps input.short").fill("1")
    expect(steps).not_to_have_text(before)
    screenshot("data-statistics")
    panel.get_by_role("button", name="Use this cutoff").click()
    expect(page.locator("#measure-cutoff_len input")).to_have_value("40")
    expect(panel.locator("#data-measure")).to_be_visible()
    panel.locator("#data-measure").click()
    too_long = panel.locator(".finding[data-code=too_long] .row-link").first
    expect(too_long).to_be_visible(timeout=MINUTE_MS)
    row = too_long.inner_text()
    too_long.click()
    expect(page.locator("#data-rows h4").first).to_contain_text(f"Row {row}")
    open_panel(page, "statistics")
    page.locator("#measure-cutoff_len input").fill("2048")
    expect(panel.locator("[data-plot=lengths] .main-svg").first).to_be_visible()


def test_an_unusable_template_or_model_is_a_card(page: Page) -> None:
    choose(page, "identity", "masks")
    masks = page.locator("#data-masks")
    expect(masks.locator(".tokens").first).to_be_visible(timeout=MINUTE_MS)
    page.locator("#mask-cutoff_len input").fill("3")
    expect(masks.locator(".card.bad")).to_contain_text("cutoff_len")
    page.locator("#mask-cutoff_len input").fill("64")
    expect(masks.locator(".tokens").first).to_be_visible()


def test_findings_fit_a_phone(
    open_page: Callable[..., Page], studio: Studio, faulty: Path, screenshot: Callable[..., None]
) -> None:
    (studio.data / "houses.jsonl").write_text(faulty.read_text() + '{"frage": \n')
    entry = {"file_name": "houses.jsonl", "columns": {"prompt": "frage", "response": "antwort"}}
    (studio.data / "dataset_info.json").write_text(json.dumps({"houses": entry}))
    page = open_page(width=390)
    choose(page, "houses", "checks")
    expect(page.locator("#data-checks .finding").first).to_be_visible()
    screenshot("data-findings-390", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    headings = page.locator("#data-checks .finding h4").all()
    assert len(headings) >= 3
    for heading in headings:
        title, count = heading.locator("b").bounding_box(), heading.locator(".finding-count").bounding_box()
        assert title is not None
        assert count is not None
        assert count["x"] >= title["x"] + title["width"]
        assert count["y"] < title["y"] + title["height"], "the number stands beside what it counts"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_looks(open_page: Callable[..., Page], screenshot: Callable[..., None], width: int, dark: bool) -> None:
    page = open_page(width=width, dark=dark)
    choose(page, "preference_demo", "statistics")
    page.locator("#data-measure").click()
    expect(page.locator("[data-plot=turns] .main-svg").first).to_be_visible(timeout=MINUTE_MS)
    shade = "dark" if dark else "light"
    screenshot(f"data-statistics-{width}-{shade}", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_panel(page, "masks")
    expect(page.locator("#data-masks .mask-segment")).to_have_count(2, timeout=MINUTE_MS)
    screenshot(f"data-masks-{width}-{shade}", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_panel(page, "checks")
    page.locator("#data-check").click()
    expect(page.locator("#data-checks .card.good")).to_be_visible(timeout=MINUTE_MS)
    screenshot(f"data-checks-{width}-{shade}", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
