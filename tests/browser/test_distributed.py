"""A training of two processes from the page: planned, watched rank by rank, stopped, gone on with as one process."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from studio.config.train import TrainConfig
from studio.runs.run import State
from tests.browser.conftest import Studio

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
MINUTE_MS = 60_000


def choose(page: Page, key: str, name: str) -> None:
    page.locator(f"#option-{key} input").click()
    page.get_by_role("option", name=name, exact=True).click()


@pytest.fixture
def planned(page: Page, studio: Studio) -> Page:
    """The Train tab with a small training in it and the section of several devices open."""
    page.goto(f"{studio.url}/#train")
    choose(page, "dataset", "alpaca_demo")
    for key, value in {"max_steps": "2000", "gradient_accumulation_steps": "2", "cutoff_len": "64"}.items():
        page.locator(f"#option-{key} input").fill(value)
    expect(page.locator("#train-verdict")).to_contain_text(re.compile("2,?000 steps"))
    page.locator("#option-section-parallel > button").click()
    return page


def test_settings_of_deepspeed_are_shown_edited_and_refused(planned: Page) -> None:
    editor, start = planned.locator("#train-zero"), planned.locator("#train-start")
    choose(planned, "parallel_strategy", "zero2")
    expect(editor).to_have_value(re.compile("reduce_bucket_size"))
    choose(planned, "offload_optimizer", "cpu")
    expect(editor).to_have_value(re.compile("offload_optimizer"))
    expect(start).to_be_enabled()
    editor.fill('{"gradient_cliping": 1.0}')
    expect(planned.locator("#train-parallel .zero-verdict")).to_contain_text("gradient_clipping")
    expect(planned.locator("#train-verdict")).to_contain_text("deepspeed")
    expect(start).to_be_disabled()
    planned.get_by_role("button", name="Back to the generated ones").click()
    expect(editor).to_have_value(re.compile("offload_optimizer"))
    expect(start).to_be_enabled()


def test_two_processes_are_stopped_and_gone_on_with_as_one(
    planned: Page, studio: Studio, screenshot: Callable[..., None]
) -> None:
    page, verdict = planned, planned.locator("#train-verdict")
    expect(verdict).to_contain_text("2 × 2")
    choose(page, "parallel_strategy", "ddp")
    expect(page.locator("#train-parallel")).to_contain_text(
        "Effective batch: 8 = batch 2 × accumulation 2 × 2 processes"
    )
    expect(verdict).to_contain_text("2 × 2 × 2")
    expect(verdict).to_contain_text("each of 2 processes on the CPU")
    page.locator("#train-start").click()
    ranks = page.locator("#run-processes tbody tr")
    ranks.nth(1).wait_for(timeout=MINUTE_MS)
    expect(ranks).to_contain_text(["training", "training"], timeout=MINUTE_MS)
    ranks.nth(1).click()
    expect(page.locator(".process-log")).to_contain_text("training", timeout=MINUTE_MS)
    screenshot("run-two-processes")
    [stopped] = studio.store.list("train")
    while not stopped.status.get("step"):  # before the first one there is nothing to save
        page.wait_for_timeout(100)
    page.locator("#run-stop").click()
    page.locator("#run-status .badge.stopped").wait_for(timeout=MINUTE_MS)
    [checkpoint] = stopped.checkpoints()
    expect(page.locator("#run-checkpoints summary")).to_contain_text("1, the last of", timeout=10_000)
    last = int(checkpoint.name.rpartition("-")[2]) + 2
    page.locator("#run-resume-changed").click()
    dialog = page.locator("#run-checkpoints form")
    dialog.locator("[name=parallel_strategy]").select_option("single")
    dialog.locator("[name=max_steps]").fill("1")
    expect(dialog.locator(".card.bad")).to_contain_text("is the last")
    expect(dialog.get_by_role("button", name="Resume so")).to_be_disabled()
    dialog.locator("[name=max_steps]").fill(f"{last}")
    expect(dialog.locator(".card.wait")).to_contain_text("so that a step is of 8 rows as before")
    screenshot("resume-dialog")
    dialog.get_by_role("button", name="Resume so").click()
    page.locator("#run-status .badge.completed").wait_for(timeout=MINUTE_MS)
    resumed, _ = studio.store.list("train")
    config = resumed.config
    assert isinstance(config, TrainConfig)
    assert (config.parallel_strategy, config.resumed_from) == ("single", stopped.id)
    assert (resumed.state, resumed.result["steps"]) == (State.COMPLETED, last)
    page.locator("#run-checkpoints").get_by_role("button", name="Verify").first.click()
    expect(page.locator("#run-checkpoints .proved").first).to_contain_text("every byte as it was written")
    weights = resumed.checkpoints()[-1] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    page.locator("#run-checkpoints").get_by_role("button", name="Verify").first.click()
    expect(page.locator("#run-checkpoints tbody tr").first).to_contain_text("damaged")
