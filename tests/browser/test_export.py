"""The Export tab: one model all the way from an adapter to a GGUF file, its reports, its zip, and the trash."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.adapters import trained
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser

SOON_MS = 120_000


def settled(page: Page, prefix: str) -> str:
    """The state in which the run that is looked at ended."""
    look = f"document.querySelector('#{prefix}-status .panel').dataset.state"
    page.wait_for_function(f"['completed', 'failed', 'stopped'].includes({look})", timeout=SOON_MS)
    return str(page.evaluate(look))


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
