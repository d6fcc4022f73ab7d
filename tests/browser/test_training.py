"""A training from the page to its figures: the form that shows what matters, the plan, the curves of each stage, the
answers on the way, and a failed run that is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs import launchers
from studio.runs.run import Run, State
from tests.browser.conftest import Studio

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
MINUTE_MS = 60_000


def choose(page: Page, key: str, name: str) -> None:
    page.locator(f"#option-{key} input").click()
    page.get_by_role("option", name=name, exact=True).click()


def find(page: Page, text: str) -> None:
    """Go to an option by the keyboard alone."""
    page.locator("#train-find input").fill(text)
    page.locator("#train-find .found-option").first.wait_for()
    page.locator("#train-find input").press("Enter")
    expect(page.locator("#train-find .found-option")).to_have_count(0)


def goto_run(page: Page, studio: Studio, run: Run) -> None:
    page.goto("about:blank")
    page.goto(f"{studio.url}/#runs/{run.id}")


def last_value(page: Page, panel: str) -> float:
    plot = f"document.querySelector('[data-panel=\"{panel}\"]')"
    page.wait_for_function(f"{plot}?.data?.[0].y.length > 0", timeout=2 * MINUTE_MS)
    return float(page.evaluate(f"{plot}.data[0].y.at(-1)"))


def test_preferences_and_rewards_are_charted(page: Page, studio: Studio, screenshot: Callable[..., None]) -> None:
    rewarded = launchers.begin(
        studio.store,
        TrainConfig(
            stage="grpo", dataset=("alpaca_demo",), dataset_dir=str(studio.data), reward_funcs=("length",),
            max_steps=2, num_generations=2, max_completion_length=8, per_device_train_batch_size=2,
            gradient_accumulation_steps=1, save_steps=0,
        ),
    )  # fmt: skip
    page.goto(f"{studio.url}/#train")
    choose(page, "stage", "dpo")
    expect(page.locator("#option-section-preference")).to_be_visible()
    expect(page.locator("#option-section-reward")).to_be_hidden()
    choose(page, "dataset", "preference_demo")
    for key, value in {"max_steps": "3", "gradient_accumulation_steps": "1", "val_size": "4"}.items():
        page.locator(f"#option-{key} input").fill(value)
    find(page, "sample prompts")
    page.locator("#option-sample_prompts textarea").fill("Who are you?")
    verdict = page.locator("#train-verdict")
    expect(verdict).to_contain_text("3 steps")
    expect(verdict).to_contain_text("dpo · LoRA, rank 8")
    expect(verdict.locator(".memory-bar i").first).to_be_visible()
    screenshot("train-dpo")
    page.locator("#train-start").click()
    page.locator("#run-status .badge.completed").wait_for(timeout=2 * MINUTE_MS)
    [run] = [run for run in studio.store.list("train") if run.id != rewarded.id]
    assert run.config.sample_prompts == "Who are you?"
    assert -100 < last_value(page, "rewards/margins") < 100
    expect(page.locator("#run-status")).to_contain_text("eval_rewards/margins")
    sample = page.locator("#run-remarks .sample")
    expect(sample).to_contain_text("Who are you?", timeout=MINUTE_MS)
    expect(sample.locator("li").first).to_contain_text("3")
    screenshot("run-dpo")
    goto_run(page, studio, rewarded)
    page.locator("#run-status .badge.completed").wait_for(timeout=2 * MINUTE_MS)
    assert 0 <= last_value(page, "reward") <= 1


@pytest.fixture
def failed(studio: Studio) -> Run:
    """A run of many settings that did not fit into memory."""
    config = TrainConfig(
        stage="dpo", dataset=("preference_demo",), dataset_dir=str(studio.data), pref_loss="simpo", simpo_gamma=0.75,
        per_device_train_batch_size=64, neftune_noise_alpha=None, run_name="too big",
    )  # fmt: skip
    run = studio.store.create(config)
    run.request("CLAIM")
    retry = {"per_device_train_batch_size": 1, "gradient_checkpointing": True}
    write_json(run.path / "error.json", {"kind": "OutOfMemory", "message": "It does not fit.", "retry": retry})
    write_json(run.path / "exit.json", {"code": 1, "signal": None, "reason": State.FAILED, "at": time.time()})
    return run


def test_a_failed_run_fills_the_form_with_what_would_do(page: Page, studio: Studio, failed: Run) -> None:
    goto_run(page, studio, failed)
    page.locator("#run-retry", has_text="per_device_train_batch_size: 1").click()
    expect(page.locator("#train-told")).to_contain_text("too big")
    expect(page.locator("#option-per_device_train_batch_size input")).to_have_value("1")
    expect(page.locator("#option-simpo_gamma input")).to_have_value("0.75")
    expect(page.locator("#train-verdict")).to_contain_text("Ready")
    find(page, "gradient checkpointing")
    expect(page.locator("#option-gradient_checkpointing input")).to_have_value("on")
    find(page, "learning_rate")  # a second way there, past what is open already
    expect(page.locator("#option-learning_rate input")).to_be_focused()
