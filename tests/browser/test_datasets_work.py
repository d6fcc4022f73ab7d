"""What is done to sets on the page: files that come in, rows that are edited, new sets, files taken home."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Studio
from tests.browser.test_datasets import line, rows_file

pytestmark = pytest.mark.browser
WORK_MS = 60_000
ROWS = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(1, 13)]


def way(page: Page, name: str) -> None:
    """Open one of the ways in."""
    page.locator("#data-ways").get_by_role("tab", name=name, exact=True).click()


def choose(page: Page, box: str, option: str) -> None:
    """Choose an option of a dropdown."""
    page.click(f"#{box} input")
    page.get_by_role("option", name=option).click()


def job(page: Page, block: str = "data-jobs") -> Locator:
    return page.locator(f"#{block} .job")


def type_row(page: Page, record: dict[str, str]) -> None:
    """Replace what the editor holds."""
    page.click("#data-json .cm-content")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(json.dumps(record))


def test_several_files_wait_and_are_registered(
    page: Page, studio: Studio, tmp_path: Path, screenshot: Callable[..., None]
) -> None:
    odd = rows_file(tmp_path, "odd.jsonl", [{"frage": "Who?", "antwort": "Fern."}] * 7)
    parts = [rows_file(tmp_path, f"part{number}.jsonl", ROWS) for number in (1, 2)]
    (tmp_path / "bad.jsonl").write_text('{"instruction": \n')
    page.set_input_files("#data-file input[type=file]", [odd, *parts, tmp_path / "bad.jsonl"])
    expect(page.locator("#drafts .draft-line")).to_have_count(3)
    expect(page.locator("#data-problem")).to_contain_text("bad.jsonl")
    expect(page.locator("#drafts .draft-line[aria-current=true]")).to_contain_text("odd.jsonl")
    screenshot("datasets-drafts")
    page.locator("#drafts .draft-open", has_text="part2").click()
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Answer 1.")
    page.fill("#data-name input, #data-name textarea", "second")
    page.locator("#drafts .draft-open", has_text="odd").click()
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Fern.")
    page.click("#data-sure")
    expect(page.locator("#data-notice")).to_contain_text("Registered as")
    expect(page.locator("#data-file-out")).to_be_hidden()
    page.click("#data-register")
    expect(line(page, "odd")).to_have_attribute("aria-selected", "true")
    assert {"part1", "second", "odd"} <= set(json.loads((studio.data / "dataset_info.json").read_text()))


def test_a_torn_file_is_registered_in_sight_and_says_where_it_is_mended(
    studio: Studio, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    entries = {f"set {number}": {"file_name": "identity.json"} for number in range(40)}
    (studio.data / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
    page, torn = open_page(), rows_file(tmp_path, "torn.jsonl", ROWS)
    torn.write_text(torn.read_text(encoding="utf-8") + '\n{"instruction": \n', encoding="utf-8")
    page.set_input_files("#data-file input[type=file]", torn)
    page.click("#data-register")
    expect(page.locator("#data-notice .card.bad")).to_contain_text("13 rows, 12 usable, 1 left out")
    expect(page.locator("#data-notice")).to_contain_text("Checks shows the rows and repairs them")
    expect(line(page, "torn")).to_have_attribute("aria-selected", "true")
    page.locator("#datasets-table").evaluate("list => list.scrollIntoView({ block: 'end' })")
    expect(line(page, "torn")).to_be_in_viewport(ratio=1)


def test_a_path_of_this_machine(page: Page, studio: Studio, tmp_path: Path) -> None:
    path = rows_file(tmp_path, "mine.jsonl", ROWS)
    way(page, "Path")
    page.fill("#data-path textarea, #data-path input", "/nowhere.jsonl")
    page.click("#data-path-look")
    expect(page.locator("#data-problem .card.bad")).to_contain_text("/nowhere.jsonl does not exist")
    way(page, "Paste")
    expect(page.locator("#data-problem .card")).to_have_count(0)
    way(page, "Path")
    page.fill("#data-path textarea, #data-path input", str(path))
    page.click("#data-path-look")
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("Answer 1.")
    page.click("#data-register")
    expect(line(page, "mine")).to_have_attribute("aria-selected", "true")
    assert path.exists()


def test_a_hub_that_cannot_be_reached_says_so(page: Page, screenshot: Callable[..., None]) -> None:
    way(page, "Hub")
    page.fill("#data-hub-id textarea, #data-hub-id input", "owner/name")
    page.click("#data-hub-look")
    expect(page.locator("#data-problem .card")).to_contain_text(re.compile("offline", re.IGNORECASE))
    screenshot("datasets-hub")


def test_a_row_is_edited_and_the_edit_undone(page: Page, studio: Studio, screenshot: Callable[..., None]) -> None:
    before = (studio.data / "identity.json").read_bytes()
    line(page, "identity").click()
    page.click("#data-rows [data-edit='2']")
    type_row(page, {"instruction": "Who?", "output": ""})
    expect(page.locator("#data-reads .card.bad")).to_contain_text("must not be empty")
    expect(page.locator("#data-save")).to_be_disabled()
    type_row(page, {"instruction": "Who?", "output": "A fern."})
    expect(page.locator("#data-reads .turn.assistant")).to_contain_text("A fern.")
    screenshot("datasets-editor")
    page.click("#data-save")
    expect(page.locator("#data-rows .turn.assistant").nth(1)).to_contain_text("A fern.")
    expect(page.locator("#data-undo-row")).to_contain_text("Row 2 was changed.")
    page.click("#data-undo")
    expect(page.locator("#data-undo-row")).to_be_hidden()
    expect(page.locator("#data-rows .turn.assistant").nth(1)).not_to_contain_text("A fern.")
    assert (studio.data / "identity.json").read_bytes() == before


def test_rows_are_added_and_deleted(page: Page) -> None:
    line(page, "identity").click()
    page.click("#data-add")
    type_row(page, {"instruction": "Last?", "output": "The last."})
    expect(page.locator("#data-reads .turn.assistant")).to_contain_text("The last.")
    page.click("#data-save")
    expect(page.locator("#data-place")).to_have_text("Rows 170–170 of 170")
    page.check("#data-rows [data-pick='170']")
    page.click("#data-rows .picked .danger")
    expect(page.locator("#data-place")).to_have_text("Rows 169–169 of 169")
    page.click("#data-undo")
    expect(page.locator("#data-place")).to_contain_text("of 170")
    expect(line(page, "identity").locator(".badge")).to_have_text(re.compile("ok|warning"))


def test_the_way_back_from_a_deletion_is_in_sight(page: Page, tmp_path: Path) -> None:
    long = [{"instruction": f"Question {number}?", "output": "Answer.\n" * 40} for number in range(5)]
    page.set_input_files("#data-file input[type=file]", rows_file(tmp_path, "long.jsonl", long))
    page.click("#data-register")
    page.check("#data-rows [data-pick='5']")
    page.click("#data-rows .picked .danger")
    expect(page.locator("#data-place")).to_have_text("Rows 1–4 of 4")
    expect(page.locator("#data-undo")).to_be_in_viewport(ratio=1)


def test_an_edit_of_a_packed_file_unpacks_it(page: Page, tmp_path: Path) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(rows_file(tmp_path, "plain.jsonl", ROWS).read_bytes()))
    page.set_input_files("#data-file input[type=file]", packed)
    page.click("#data-register")
    expect(page.locator("#data-head")).to_contain_text("packed.jsonl.gz")
    page.check("#data-rows [data-pick='2']")
    page.click("#data-rows .picked .danger")
    expect(page.locator("#data-head")).not_to_contain_text(".gz")
    page.click("#data-undo")
    expect(page.locator("#data-head")).to_contain_text("packed.jsonl.gz")


def test_an_edit_of_a_file_that_changed_meanwhile_is_refused(open_page: Callable[..., Page]) -> None:
    page, other = open_page(), open_page()
    line(page, "identity").click()
    page.click("#data-rows [data-edit='1']")
    expect(page.locator("#data-reads .turn.assistant")).to_be_visible()
    line(other, "identity").click()
    other.check("#data-rows [data-pick='1']")
    other.click("#data-rows .picked .danger")
    expect(other.locator("#data-place")).to_have_text("Rows 1–5 of 168")
    type_row(page, {"instruction": "Who?", "output": "A fern."})
    expect(page.locator("#data-reads .turn.assistant")).to_contain_text("A fern.")
    page.click("#data-save")
    expect(page.get_by_text("changed", exact=False).first).to_be_visible()


def test_a_registered_set_is_read_anew(page: Page, tmp_path: Path) -> None:
    rows = [{"instruction": "left", "output": "right", "other": "third"}] * 3
    page.set_input_files("#data-file input[type=file]", rows_file(tmp_path, "swap.jsonl", rows))
    page.click("#data-register")
    expect(page.locator("#data-rows .turn.assistant").first).to_contain_text("right")
    page.click("#data-columns")
    expect(page.locator("#data-register")).to_have_text("Save")
    choose(page, "data-response", "other")
    expect(page.locator("#data-sample .turn.assistant").first).to_contain_text("third")
    page.click("#data-register")
    expect(page.locator("#data-notice")).to_contain_text("swap is read anew")
    expect(page.locator("#data-rows .turn.assistant").first).to_contain_text("third")


def test_a_split_is_made_opened_and_undone(page: Page, studio: Studio, screenshot: Callable[..., None]) -> None:
    line(page, "identity").click()
    page.click("#data-make")
    expect(page.locator("#work-fraction")).to_be_visible()
    expect(page.locator("#work-column")).to_be_hidden()
    screenshot("datasets-make")
    page.click("#data-work-start")
    expect(page.locator("#data-head h3")).to_contain_text("identity-", timeout=WORK_MS)
    line(page, "identity").click()
    expect(job(page)).to_contain_text("Split identity")
    screenshot("datasets-jobs")
    names = set(json.loads((studio.data / "dataset_info.json").read_text()))
    job(page).get_by_role("button", name="Undo").click()
    expect(job(page)).to_have_count(0)
    assert len(set(json.loads((studio.data / "dataset_info.json").read_text()))) == len(names) - 2


def test_work_that_cannot_be_done_says_why(page: Page) -> None:
    line(page, "identity").click()
    page.click("#data-make")
    choose(page, "data-work-kind", "Merge with other sets")
    page.click("#data-work-start")
    expect(page.get_by_text("choose at least two datasets to merge")).to_be_visible()


def test_a_set_is_taken_home(page: Page, tmp_path: Path) -> None:
    line(page, "identity").click()
    page.click("#data-take")
    page.get_by_role("radio", name="csv").click()
    with page.expect_download(timeout=WORK_MS) as waiting:
        page.click("#data-take-start")
    assert waiting.value.suggested_filename == "identity.csv"
    waiting.value.save_as(tmp_path / "taken.csv")
    assert (tmp_path / "taken.csv").read_text().startswith("instruction,input,output")


def test_the_list_sorts_and_keeps_hub_entries_apart(
    page: Page, studio: Studio, screenshot: Callable[..., None]
) -> None:
    known = json.loads((studio.data / "dataset_info.json").read_text())
    far = {f"far{number}": {"hf_hub_url": f"owner/far{number}"} for number in range(100)}
    (studio.data / "dataset_info.json").write_text(json.dumps({**known, **far}))
    expect(page.locator("#datasets-table .on-hubs summary")).to_contain_text("100")
    page.locator("#datasets-table th", has_text="Rows").click()
    counts = page.locator("#datasets-table td.number:nth-child(3)").all_inner_texts()
    numbers = [int(text.replace(",", "")) for text in counts if text]
    assert numbers == sorted(numbers, reverse=True)
    page.locator("#datasets-table .on-hubs summary").click()
    screenshot("datasets-hubs")
    line(page, "far7").click()
    expect(page.locator("#data-fetch")).to_be_visible()
    expect(page.locator("#data-train")).to_be_hidden()
    page.click("#data-fetch")
    told = re.compile("offline", re.IGNORECASE)
    expect(page.locator("#data-jobs .card.bad")).to_contain_text(told, timeout=WORK_MS)
    page.locator("#data-jobs").get_by_role("button", name="Dismiss").click()
    expect(page.locator("#data-jobs .job")).to_have_count(0)


def test_the_list_is_walked_with_the_keyboard(page: Page) -> None:
    expect(line(page, "identity")).to_be_visible()
    page.locator("#datasets-table input").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#datasets-table tr[aria-selected=true]")).to_have_count(1)
    expect(page.locator("#data-place")).to_contain_text("Rows 1–5")


@pytest.mark.parametrize("dark", [False, True])
def test_the_forms_fit_a_phone(open_page: Callable[..., Page], screenshot: Callable[..., None], dark: bool) -> None:
    page = open_page(width=390, dark=dark)
    line(page, "identity").click()
    page.click("#data-make")
    expect(page.locator("#work-fraction")).to_be_visible()
    page.click("#data-rows [data-edit='1']")
    expect(page.locator("#data-reads .turn.assistant")).to_be_visible()
    screenshot(f"datasets-forms-390-{'dark' if dark else 'light'}", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
