"""Every tab at two widths, light and dark, in two languages: kept as pictures, and nothing sticks out of the page."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page

from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs import events
from tests.browser.conftest import Studio

MARGINS = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected", "logps/chosen")
pytestmark = pytest.mark.browser
TABS = ("datasets", "train", "runs", "chat", "export")


@pytest.fixture
def used(studio: Studio) -> Studio:
    """A studio with something to show: runs in several states, one of them with curves."""
    for name, reason in (("quick try", "failed"), ("identity", "completed")):
        if studio.store.list():
            time.sleep(1.1)  # ids sort by the second
        run = studio.store.create(TrainConfig(dataset=("identity",), run_name=name))
        run.request("CLAIM")
        for step in range(1, 200):
            loss = 2.5 / step**0.5 + (0.4 if step % 37 == 0 else 0)
            if step % 40 == 1:
                events.append(run.metrics, events.Sample(step - 1, "Who are you?", f"I am number {step // 80}.", 0.0))
                events.append(run.metrics, events.Eval(step, loss, 0.0, metrics={name: step / 200 for name in MARGINS}))
            events.append(
                run.metrics,
                events.Step(
                    step,
                    loss,
                    2e-4 * (1 - step / 200),
                    1 / step,
                    step * 800,
                    4000 + step,
                    step / 60,
                    0.6,
                    0.0,
                    {name: step / 150 for name in MARGINS},
                ),
            )
        if reason == "failed":
            write_json(run.path / "error.json", {"kind": "RowError", "message": "row 7: no output", "hint": "Fix it."})
        else:
            best = {"best_step": 161, "best_metric": "loss", "best_value": 0.197}
            write_json(run.path / "result.json", {"output": "adapter", "steps": 199, "train_loss": 0.4, **best})
        write_json(run.path / "exit.json", {"code": 0, "signal": None, "reason": reason, "at": time.time()})
    return studio


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab(
    used: Studio, open_page: Callable[..., Page], screenshot: Callable[..., None], width: int, dark: bool
) -> None:
    page = open_page(width=width, dark=dark)
    for tab in TABS:
        page.locator(f"#tab-{tab}-button:visible").click()
        page.locator(f"#tab-{tab}").wait_for()
        if tab == "runs":
            page.locator("#run-remarks .sample li").nth(1).wait_for()
            page.get_by_text("more figures").click()
            page.wait_for_function(f"document.querySelectorAll('[data-panel] .main-svg').length >= {5 + len(MARGINS)}")
            page.locator("[data-panel=loss]").get_by_text("best: step 161").wait_for()
        if tab == "datasets":
            page.locator("#datasets-table").get_by_text("sharegpt_demo").click()
            page.locator("#data-rows .turn").first.wait_for()
        screenshot(f"look-{tab}-{width}-{'dark' if dark else 'light'}", page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_speaks_chinese(chromium: Browser, studio: Studio) -> None:
    context = chromium.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(f"{studio.url}/#train")
    page.get_by_role("tab", name="训练").wait_for()
    page.get_by_role("button", name="开始训练").wait_for()
    page.get_by_text("适配器的秩：越大学得越多，占用也越大。").wait_for()
    assert "__i18n__" not in page.locator("body").inner_text()
    context.close()
