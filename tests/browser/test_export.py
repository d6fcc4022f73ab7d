"""The Export tab: one model all the way from an adapter to a GGUF file, its reports, its zip, and the trash."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from studio.config.merge import MergeConfig
from studio.config.quantize import QuantizeConfig
from studio.exports import report
from studio.exports.report import Answer, Report, Section, Table
from studio.files import write_json
from studio.runs.run import Run
from tests.adapters import trained
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser

SOON_MS = 120_000


def settled(page: Page, prefix: str) -> str:
    """The state in which the run that is looked at ended."""
    look = f"document.querySelector('#{prefix}-status .panel').dataset.state"
    page.wait_for_function(f"['completed', 'failed', 'stopped'].includes({look})", timeout=SOON_MS)
    return str(page.evaluate(look))


def ended(run: Run, reason: str, found: Report) -> None:
    """What the worker of a run leaves when it is done."""
    report.write(found, run.path)
    write_json(run.path / "exit.json", {"code": int(reason != "completed"), "reason": reason})


def test_reports_draw_their_charts_and_tell_what_is_in_quarantine(studio: Studio, page: Page) -> None:
    table = Table(("model", "size", "perplexity"), (("bf16", "1.2 GB", "8.1"), ("int8", "640 MB", "8.3")), ("size",))
    asked = {"export_quantization_method": "rtn", "eval_dataset": "identity", "run_name": "small"}
    small = studio.store.create(QuantizeConfig(model_name_or_path="seedling", **asked))
    ended(small, "completed", Report("Small", "Half the size.", True, (Section("Before and after", table=table),)))
    wrong = studio.store.create(MergeConfig(adapter_name_or_path=("fern",), run_name="wrong"))
    (wrong.path / "quarantine").mkdir()
    write_json(wrong.path / "error.json", {"message": "The answers differ.", "hint": "Merge again."})
    answers = (Answer("Who are you?", "A fern.", "<b>A weed</b>."),)
    ended(wrong, "failed", Report("Wrong", "It is not the same.", False, (Section("Answers", answers=answers),)))

    page.goto(f"{studio.url}/#export")
    page.locator("#export-status").get_by_text(str(wrong.path / "quarantine")).wait_for()
    page.locator("#export-status .turn.rejected").get_by_text("<b>A weed</b>.").wait_for()
    assert page.locator("#export-chat, #export-download").count() == 0
    page.locator("#export-tab-quantize-button:visible").click()
    bars = page.locator("#quantize-status .report-plot .bars .point path")
    bars.nth(1).wait_for()
    tall, low = (bar.bounding_box() for bar in bars.all())
    assert tall["height"] > 1.8 * low["height"], "1.2 GB is more than 640 MB"


def test_from_an_adapter_to_a_gguf_file(
    studio: Studio, page: Page, open_page: Callable[..., Page], screenshot: Callable[..., None]
) -> None:
    fern = trained(studio.store, "fern")
    trained(studio.store, "moss")
    page.goto(f"{studio.url}/#runs")
    page.locator("#runs-table tbody tr", has_text="fern").click()
    page.locator("#run-merge:not([disabled])").click()
    page.locator("#export-verdict").get_by_text("LoRA of rank 4").wait_for()
    page.locator("#export-start:not([disabled])").dblclick()
    assert settled(page, "export") == "completed", studio.store.list("merge")[0].log.read_text()
    [merge] = studio.store.list("merge")
    assert merge.name == "fern-merged"
    assert str(fern) in merge.config.adapter_name_or_path  # not the newest, which is proposed
    page.locator("#export-status .report-answer").nth(4).wait_for()
    screenshot("export-merge")
    with page.expect_download() as download:
        page.locator("#export-download").click()
    names = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())).namelist()
    assert any(name.endswith("model.safetensors") for name in names)

    page.locator("#export-gguf").click()
    page.locator("#gguf-verdict").get_by_text("q8_0: about").wait_for()
    page.locator("#gguf-start:not([disabled])").click()
    assert settled(page, "gguf") == "completed", studio.store.list("gguf")[0].log.read_text()
    [made] = studio.store.list("gguf")
    assert made.output is not None
    assert list(made.output.glob("*.gguf"))
    page.locator("#gguf-status .report-section").first.wait_for()
    screenshot("export-gguf")

    phone = open_page(width=390, dark=True)
    phone.goto(f"{studio.url}/?__theme=dark&again#export")
    phone.locator("#export-status .report-answer").first.wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot("export-phone-dark", phone)

    page.locator("#gguf-delete").click()
    page.get_by_text("Nothing was converted yet").wait_for()
    assert studio.store.list("gguf") == []
    page.locator("#gguf-status").get_by_role("button", name="Undo").click()
    page.locator("#gguf-status .report-section").first.wait_for()
    assert [run.id for run in studio.store.list("gguf")] == [made.id]
