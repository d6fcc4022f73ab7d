"""The whole way, as a person goes it: own file, training, live curves, chat beside the base, merge, chat with that.

One test, because each step needs what the one before made; every step is real, and so is the time it takes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from studio.settings import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.vllm, pytest.mark.timeout(1500)]

QUESTION = "Who are you?"
MINUTE_MS = 60_000


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    """A person's own rows: every answer says a name that no shipped data holds."""
    rows = json.loads((ROOT / "data" / "identity.json").read_text(encoding="utf-8"))
    text = json.dumps(rows, ensure_ascii=False).replace("{{name}}", "Bramble").replace("{{author}}", "Rosa")
    path = tmp_path / "my rows.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_from_own_file_to_merged_model(studio: Any, page: Any, screenshot: Any, own_file: Path) -> None:
    upload(page, studio.url, own_file)
    screenshot("journey-1-datasets")
    run = train(page, screenshot)
    follow(page, screenshot, run)
    before = compare(page)
    screenshot("journey-4-chat")
    assert "Bramble" in before["right"]
    assert "Bramble" not in before["left"]
    merge(page)
    screenshot("journey-5-export")
    page.locator("#export-chat").click()
    merged = ask(page)
    screenshot("journey-6-merged")
    assert "Bramble" in merged["right"]
    for server in studio.store.list("serve"):
        server.stop_now()


def upload(page: Any, url: str, path: Path) -> None:
    page.goto(f"{url}/#datasets")
    page.locator("#data-file input[type=file]").set_input_files(path)
    page.locator("#data-name textarea, #data-name input").fill("my_rows")
    page.locator("#data-register").click()
    page.locator("#datasets-table").get_by_text("my_rows").wait_for()
    page.locator("#data-rows").get_by_text("Bramble").first.wait_for()
    page.locator("#data-train").click()


def train(page: Any, screenshot: Any) -> str:
    """Start from the shipped recipe, shortened, on the uploaded rows; twice clicked, once started."""
    page.locator("#train-preset input").click()
    page.get_by_role("option", name="identity", exact=True).click()
    page.locator("#train-verdict").get_by_text("8 epochs").wait_for()  # the recipe's: what is typed before it is lost
    page.locator("#train-verdict").get_by_text("my_rows", exact=True).wait_for()
    page.locator("#option-num_train_epochs input").fill("3")
    page.locator("#option-num_train_epochs input").press("Tab")
    page.locator("#train-verdict").get_by_text("3 epochs").wait_for()
    screenshot("journey-2-train")
    page.locator("#train-start").dblclick()
    page.locator("#runs-table tbody tr").first.wait_for(timeout=MINUTE_MS)
    assert page.locator("#runs-table tbody tr").count() == 1
    return str(page.locator("#runs-table tbody tr").get_attribute("data-run"))


def follow(page: Any, screenshot: Any, run: str) -> None:
    """The curve moves, survives a reload, and the run ends well."""
    points = "+(document.querySelector('[data-points]')?.dataset.points ?? 0)"
    page.wait_for_function(f"{points} > 0", timeout=2 * MINUTE_MS)
    first = page.evaluate(points)
    page.wait_for_function(f"{points} > {first}", timeout=MINUTE_MS)
    page.reload()
    page.wait_for_function(f"{points} >= {first}", timeout=MINUTE_MS)
    assert run in page.url
    screenshot("journey-3-runs")
    page.locator("#run-status", has_text="Computed by: attention").wait_for(timeout=MINUTE_MS)
    page.locator("#run-status .badge.completed").wait_for(timeout=8 * MINUTE_MS)
    losses = page.evaluate("document.querySelector('[data-panel=loss]').data[0].y")
    assert losses[-1] < losses[0] / 2


def compare(page: Any) -> dict[str, str]:
    page.locator("#run-chat").click()
    return ask(page)


def ask(page: Any) -> dict[str, str]:
    """Send the question to both panes and wait until both have answered it whole."""
    # who answers is picked as the tab opens
    page.locator("#chat-2-remark").filter(has_text=re.compile(r"\S")).wait_for()
    page.locator("#chat-clear").click()
    box = page.locator("#chat-prompt textarea")
    box.fill(QUESTION)
    box.press("Enter")
    for pane in ("1", "2"):
        page.locator(f"#chat-{pane}-figures").get_by_text("finished").wait_for(timeout=8 * MINUTE_MS)
    sides = {"left": "1", "right": "2"}
    return {side: page.locator(f"#chat-{pane} .bot").last.inner_text() for side, pane in sides.items()}


def merge(page: Any) -> None:
    page.get_by_role("tab", name="Runs").click()
    page.locator("#run-merge").click()
    page.locator("#export-start:not([disabled])").click(timeout=MINUTE_MS)
    page.locator("#export-status .badge.completed").wait_for(timeout=2 * MINUTE_MS)
