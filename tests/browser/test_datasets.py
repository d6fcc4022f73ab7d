"""The Datasets tab as a person uses it: a real studio, a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Studio, held

pytestmark = pytest.mark.browser
EVIL = (
    '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 2"> '
    '${window.pwned = 3} {{name}} <b>bold</b> "><svg onload="window.pwned = 4">'
)
LARGE_BYTES = 200_000_000


def rows_file(folder: Path, name: str, rows: list[dict[str, str]]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#data-file input[type=file]", path)


def line(page: Page, name: str) -> Locator:
    return page.locator(f'#datasets-table tr[data-name="{name}"]')


@pytest.mark.parametrize("width", [1280, 390])
def test_long_names_and_notes_leave_the_state_in_sight(
    studio: Studio, open_page: Callable[..., Page], width: int
) -> None:
    registry = studio.data / "dataset_info.json"
    entries = json.loads(registry.read_text(encoding="utf-8"))
    name = "a_set_with_a_name_that_somebody_made_much_too_long"
    registry.write_text(json.dumps({name: {"file_name": f"{name}.json"}, **entries}), encoding="utf-8")
    page = open_page(width=width)
    expect(line(page, name)).to_contain_text("unusable")
    table, badge = page.locator("#datasets-table").bounding_box(), line(page, name).locator(".badge").bounding_box()
    assert table is not None
    assert badge is not None
    assert badge["x"] + badge["width"] <= table["x"] + table["width"]


def test_lists_searches_and_reads_a_set(page: Page, screenshot: Callable[..., None]) -> None:
    expect(line(page, "identity")).to_contain_text("169")
    page.fill("#datasets-table input", "PREFER")
    expect(page.locator("#datasets-table tbody tr")).to_have_count(1)
    page.fill("#datasets-table input", "zzz")
    expect(page.locator("#datasets-table .empty")).to_contain_text("No dataset is called like “zzz”")
    page.fill("#datasets-table input", "")
    line(page, "preference_demo").click()
    expect(page.locator("#data-place")).to_have_text("Rows 1–5 of 65")
    better, worse = (page.locator(f"#data-rows .pair .turn.{kind}").first for kind in ("assistant", "rejected"))
    left, right = better.bounding_box(), worse.bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] < right["x"]
    screenshot("datasets")
    page.click("#data-last")
    expect(page.locator("#data-place")).to_have_text("Rows 61–65 of 65")
    page.fill("#data-jump textarea, #data-jump input", "12")
    page.keyboard.press("Enter")
    expect(page.locator("#data-rows h4").first).to_contain_text("Row 12")
    page.fill("#data-jump textarea, #data-jump input", "twelve")
    page.keyboard.press("Enter")
    expect(page.get_by_text("'twelve' is not a row")).to_be_visible()


def test_markup_in_rows_is_shown_as_text(page: Page, studio: Studio, tmp_path: Path) -> None:
    rows = [{"instruction": EVIL, "output": EVIL}, {"instruction": EVIL, "output": ""}]
    upload(page, rows_file(tmp_path, "evil <b>.jsonl", rows))
    expect(page.locator("#data-sample")).to_contain_text(EVIL)
    page.click("#data-register")
    expect(page.locator("#data-notice")).to_contain_text("2 rows, 1 usable, 1 left out")
    expect(page.locator("#data-rows")).to_contain_text(EVIL)
    expect(page.locator("#data-rows .card.bad")).to_contain_text("'output' must not be empty")
    assert page.evaluate("window.pwned") is None
    assert page.locator(":is(#data-rows, #data-notice) :is(img, script, svg), #data-rows .turn b b").count() == 0


def test_a_bad_file_names_the_row_and_the_next_one_is_registered(
    page: Page, studio: Studio, tmp_path: Path, screenshot: Callable[..., None]
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('[{"instruction": "a", "output": "b"},\n{"instruction": "c" "output": "d"}]')
    upload(page, broken)
    expect(page.locator("#data-problem")).to_contain_text("broken.json: row 2: line 2")
    assert not (studio.data / "broken.json").exists()
    upload(page, rows_file(tmp_path, "fern.jsonl", [{"frage": "Who?", "antwort": "Fern."}] * 7))
    expect(page.locator("#data-guess")).to_contain_text("A guess")
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Fern.")
    screenshot("datasets-upload")
    page.fill("#data-name input, #data-name textarea", "fern_set")
    page.click("#data-register")
    expect(page.locator("#data-notice")).to_contain_text("Registered as fern_set: 7 rows, 7 usable")
    expect(line(page, "fern_set")).to_have_attribute("aria-selected", "true")
    page.click("#data-train")
    expect(page.locator("#tab-train")).to_be_visible()
    expect(page.locator("#option-dataset")).to_contain_text("fern_set")


def test_the_sample_follows_an_upload_that_comes_during_a_look(page: Page, tmp_path: Path) -> None:
    with held(page, "Fern.") as waiting:
        upload(page, rows_file(tmp_path, "fern.jsonl", [{"question": "Who?", "answer": "Fern."}] * 7))
        while not waiting:
            page.wait_for_timeout(50)
        page.click("#data-cancel")
        expect(page.locator("#datasets-table")).to_be_visible()
        upload(page, rows_file(tmp_path, "moss.jsonl", [{"question": "Who?", "answer": "Moss."}] * 7))
        expect(page.locator("#data-name textarea, #data-name input")).to_have_value("moss")
        page.wait_for_timeout(500)  # long enough for a look that does not wait for the one before
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Moss.")
    expect(page.locator("#data-sample")).not_to_contain_text("Fern.")


def test_the_sample_follows_a_changed_column(page: Page, tmp_path: Path) -> None:
    upload(page, rows_file(tmp_path, "swap.jsonl", [{"instruction": "left", "output": "right", "other": "third"}] * 3))
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("right")
    page.click("#data-response input")
    page.get_by_role("option", name="other").click()
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("third")
    page.click("#data-format input")
    page.get_by_role("option", name="Plain text").click()
    expect(page.locator("#data-response")).to_be_hidden()
    expect(page.locator("#data-sample .turn.text").first).to_contain_text("left")
    page.click("#data-cancel")
    expect(page.locator("#datasets-table")).to_be_visible()
    expect(page.locator("#data-register")).to_be_hidden()


def test_pasted_rows(page: Page) -> None:
    page.locator("#data-ways").get_by_role("tab", name="Paste", exact=True).click()
    page.fill(
        "#data-pasted textarea", '{"instruction": "Hi", "output": "Hello"}\n{"instruction": "Bye", "output": "Ciao"}'
    )
    page.click("#data-look")
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Hello")
    page.click("#data-register")
    expect(page.locator("#data-place")).to_have_text("Rows 1–2 of 2")


def test_delete_asks_and_undoes(page: Page, studio: Studio) -> None:
    line(page, "identity").click()
    page.click("#data-delete")
    expect(page.get_by_text("Move this dataset and its file to the trash?")).to_be_visible()
    page.click("#data-delete-yes")
    expect(line(page, "identity")).to_have_count(0)
    assert not (studio.data / "identity.json").exists()
    page.click("#data-delete-undo")
    expect(line(page, "identity")).to_have_attribute("aria-selected", "true")
    assert (studio.data / "identity.json").exists()


def test_an_empty_folder_says_what_to_do(page: Page, studio: Studio) -> None:
    (studio.data / "dataset_info.json").write_text("{}")
    expect(page.locator("#datasets-table .empty")).to_contain_text("Drop a file above")
    (studio.data / "dataset_info.json").write_text("{,}")
    expect(page.locator("#datasets-table .card.bad")).to_contain_text("is damaged at line 1")


def test_a_large_file_shows_progress_and_blocks_nobody(
    open_page: Callable[..., Page], studio: Studio, tmp_path: Path
) -> None:
    large, row = tmp_path / "large.jsonl", json.dumps({"instruction": "word " * 60, "output": "text " * 80}) + "\n"
    large.write_text(row * (LARGE_BYTES // len(row)))
    page, other = open_page(), open_page()
    upload(page, large)
    page.wait_for_selector("#data-register:visible", timeout=120_000)
    page.click("#data-register")
    expect(page.locator("#data-place")).to_contain_text("Rows 1–5 of")
    expect(page.locator("#data-jobs .job")).to_contain_text("Check large")
    expect(page.locator("#data-jobs .bar")).to_be_visible()
    line(other, "identity").click()
    expect(other.locator("#data-place")).to_have_text("Rows 1–5 of 169")
    expect(line(page, "large")).to_contain_text(re.compile("ok|warning"), timeout=120_000)
    expect(page.locator("#data-jobs .job")).to_have_count(0)
    page.click("#data-last")
    expect(page.locator("#data-place")).to_contain_text(re.compile(r"of 2\d\d,\d\d\d"))


@pytest.mark.parametrize("dark", [False, True])
def test_fits_a_phone(open_page: Callable[..., Page], screenshot: Callable[..., None], dark: bool) -> None:
    page = open_page(width=390, dark=dark)
    line(page, "preference_demo").click()
    expect(page.locator("#data-rows .pair").first).to_be_visible()
    screenshot(f"datasets-390-{'dark' if dark else 'light'}", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
