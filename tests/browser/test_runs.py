"""The Runs tab while pages and studios come and go: the run does not notice, and every page shows the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from studio.config.train import TrainConfig
from studio.runs import events, launchers
from studio.runs.run import Run, State
from studio.settings import ROOT
from tests.browser.conftest import Studio, held, restart_below

pytestmark = pytest.mark.browser

POINTS = "+(document.querySelector('[data-points]')?.dataset.points ?? 0)"
SOON_MS = 60_000


@pytest.fixture
def running(studio: Studio) -> Run:
    """A real training that goes on for longer than any of these tests."""
    config = TrainConfig(
        dataset=("identity",), dataset_dir=str(ROOT / "data"), model_name="Sprout", model_author="Ada",
        max_steps=5000, per_device_train_batch_size=1, gradient_accumulation_steps=1, save_steps=0,
    )  # fmt: skip
    run = studio.store.create(config)
    launchers.start(run)
    return run


def goto_run(page: Page, studio: Studio, run: Run) -> None:
    page.goto("about:blank")
    page.goto(f"{studio.url}/#runs/{run.id}")
    page.wait_for_function(f"{POINTS} > 1", timeout=SOON_MS)


def steps(run: Run) -> list[int]:
    return [event["step"] for event in events.read(run.metrics)[0] if event["type"] == "step"]


def test_page_closed_and_another_opened(studio: Studio, running: Run, open_page: Callable[..., Page]) -> None:
    first = open_page()
    goto_run(first, studio, running)
    first.close()
    logged = len(steps(running))
    second = open_page(width=390)
    goto_run(second, studio, running)
    assert len(steps(running)) > logged
    assert running.state is State.RUNNING


def test_two_browsers_see_one_run_and_one_stops_it(
    studio: Studio, running: Run, open_page: Callable[..., Page]
) -> None:
    left, right = open_page(), open_page(dark=True)
    goto_run(left, studio, running)
    goto_run(right, studio, running)
    left.locator("#run-stop").click()
    for page in (left, right):
        page.locator("#run-status .badge.stopped").wait_for(timeout=SOON_MS)
    assert running.result["stopped"] is True
    assert running.checkpoints()


def test_studio_killed_and_started_again(studio: Studio, running: Run, page: Page, faults: list[str]) -> None:
    goto_run(page, studio, running)
    studio.kill()
    before = len(steps(running))
    time.sleep(1)
    studio.start()
    begun = time.monotonic()
    goto_run(page, studio, running)
    assert time.monotonic() - begun < 20  # the page itself; the run is known at once, see below
    assert running.state is State.RUNNING
    logged = steps(running)
    assert len(logged) > before
    assert logged == list(range(1, len(logged) + 1))
    faults.clear()  # the page complained while nobody answered, and rightly


def test_an_open_page_finds_the_studio_again(studio: Studio, running: Run, page: Page, faults: list[str]) -> None:
    goto_run(page, studio, running)
    drawn = page.evaluate(POINTS)
    restart_below(page, studio)
    page.wait_for_function(f"{POINTS} > {drawn}", timeout=SOON_MS)
    faults.clear()


def test_delete_asks_and_can_be_undone(studio: Studio, running: Run, page: Page) -> None:
    running.stop_now()
    page.goto("about:blank")
    page.goto(f"{studio.url}/#runs/{running.id}")
    page.locator("#run-status .badge.stopped").wait_for(timeout=SOON_MS)
    page.locator("#run-delete").click()
    page.locator("#run-delete-yes").click()
    page.locator("#runs-table .runs-empty").wait_for()
    page.locator("#run-delete-undo").click()
    page.locator(f"#runs-table tr[data-run='{running.id}']").wait_for()
    assert [run.id for run in studio.store.list()] == [running.id]


def test_keyboard_chooses_a_run(studio: Studio, page: Page, tmp_path: Path) -> None:
    for name in ("first", "second"):
        studio.store.create(TrainConfig(dataset=("identity",), run_name=name))
        time.sleep(1.1)  # ids sort by the second
    page.goto("about:blank")
    page.goto(f"{studio.url}/#runs")
    rows = page.locator("#runs-table tbody tr")
    rows.nth(1).wait_for(timeout=SOON_MS)
    rows.nth(0).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#run-status").get_by_text("first", exact=True).wait_for()
    assert "first" in page.url


def test_of_runs_that_are_picked_in_haste_the_last_is_shown(studio: Studio, page: Page) -> None:
    """The answers about the first one come when the second one is chosen already."""
    first, second = (studio.store.create(TrainConfig(dataset=("identity",), run_name=name)) for name in "ab")
    page.goto(f"{studio.url}/#runs")
    row = page.locator(f"#runs-table tr[data-run='{first.id}']")
    row.wait_for(timeout=SOON_MS)
    with held(page, first.id) as waiting:
        row.click()
        while not waiting:
            page.wait_for_timeout(50)
        page.locator(f"#runs-table tr[data-run='{second.id}']").click()
        page.wait_for_timeout(500)  # long enough for a look that does not wait for the one before
    page.locator("#run-status").get_by_text(second.id).wait_for()
    page.wait_for_timeout(500)
    assert first.id not in page.locator("#run-status").inner_text()
    page.get_by_role("button", name="Configuration").click()
    page.get_by_text("run_name: b", exact=True).wait_for()


def test_a_long_list_scrolls_and_its_last_run_can_be_chosen(studio: Studio, page: Page) -> None:
    oldest, *_ = [
        studio.store.create(TrainConfig(dataset=("identity",), run_name=f"run {index}")) for index in range(14)
    ]
    oldest.path.rename(studio.saves / "20260101-000000-abcdef-oldest")
    page.goto(f"{studio.url}/#runs")
    page.locator("#runs-table tbody tr").nth(13).click()
    page.locator("#run-status").get_by_text("20260101-000000-abcdef-oldest").wait_for()
