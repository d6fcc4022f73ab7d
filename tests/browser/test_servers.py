"""The Servers page against a real server, from the form to the copied program; and what it says when it is empty."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from safetensors import safe_open
from safetensors.numpy import save_file

from studio.config.serve import ServeConfig
from studio.files import write_json
from studio.runs.run import Run
from studio.settings import ASSETS
from tests.browser.conftest import SETTLE_MS, Studio, open_tab

pytestmark = pytest.mark.browser

BASE = ASSETS / "seedling"
MINUTE_MS = 60_000


def adapter(folder: Path, rank: int) -> Path:
    """A LoRA adapter of random weights on the bundled model's query projections."""
    folder.mkdir()
    random, tensors = np.random.default_rng(0), {}
    with safe_open(BASE / "model.safetensors", "np") as weights:
        names = [name for name in weights.keys() if name.endswith("q_proj.weight")]  # noqa: SIM118 (no mapping)
        for name in names:
            rows, columns = weights.get_slice(name).get_shape()
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = random.normal(0, 0.05, (rank, columns)).astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = random.normal(0, 0.5, (rows, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"base_model_name_or_path": str(BASE), "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "task_type": "CAUSAL_LM", **config})
    return folder


def open_servers(page: Page) -> None:
    open_tab(page, "Chat")
    open_tab(page, "Servers", "#chat-tabs")


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_from_the_form_to_other_programs(
    studio: Studio, page: Page, screenshot: Callable[..., None], tmp_path: Path
) -> None:
    open_servers(page)
    expect(page.locator("#servers-list")).to_contain_text("No server runs")
    server = start(page)
    screenshot("servers-ready")
    load_adapters(page, server, tmp_path)
    watch_load(page, server, studio)
    copy_program(page, server, studio)
    screenshot("servers-load-and-api")
    server.get_by_role("button", name="Stop", exact=True).click()
    expect(server.locator(".badge")).to_have_text("stopped", timeout=MINUTE_MS)
    expect(server.get_by_role("button", name="Start again")).to_be_visible()


def start(page: Page) -> Any:
    """Fill the form, read the options file, press Start, see the phases pass."""
    for group in ("server", "cache"):
        page.locator(f"#serve-section-{group} > button").click()
    give(page, "max_model_len", "512", "max-model-len: 512")
    give(page, "kv_cache_memory", "64M", "kv-cache-memory-bytes: 64M")
    expect(page.locator("#serve-told")).to_contain_text("Ready")
    page.locator("#serve-start").click()
    server = page.locator("#servers-list .server")
    expect(server.locator(".badge")).to_have_text("starting", timeout=MINUTE_MS)
    expect(server.locator(".phases .now")).to_be_visible()
    expect(server).to_contain_text("s left")
    expect(server.locator(".badge")).to_have_text("ready", timeout=4 * MINUTE_MS)
    assert server.count() == 1
    return server


def give(page: Page, key: str, value: str, shown: str) -> None:
    """Fill a field until the options file shows it: one that was just mounted is not listened to yet."""
    yaml, deadline = page.locator("#serve-yaml"), time.monotonic() + 60
    while shown not in yaml.inner_text():
        assert time.monotonic() < deadline, f"{key} does not become {value}"
        page.locator(f"#serve-{key}").get_by_test_id("textbox").fill("")
        page.locator(f"#serve-{key}").get_by_test_id("textbox").fill(value)
        page.wait_for_timeout(SETTLE_MS)


def load_adapters(page: Page, server: Any, folder: Path) -> None:
    """By hand: one that is not there, one of too big a rank, a good one."""
    typed, press = server.locator("input.folder"), server.get_by_role("button", name="Load", exact=True)
    typed.fill(str(folder / "nowhere"))
    press.click()
    expect(server.locator(".card.bad")).to_contain_text("nowhere is not a folder")
    typed.fill(str(adapter(folder / "wide", 64)))
    press.click()
    expect(server.get_by_role("button", name="Restart with max_lora_rank=64")).to_be_visible()
    typed.fill(str(adapter(folder / "fox", 8)))
    press.click()
    expect(server.locator(".server-models li")).to_have_count(2, timeout=MINUTE_MS)
    expect(server.locator(".server-models")).to_contain_text("✓ answers")
    expect(server.locator(".card.bad")).to_have_count(0)


def watch_load(page: Page, server: Any, studio: Studio) -> None:
    """A question moves the figures and the curves."""
    [run] = studio.store.list("serve")
    before = int(server.locator(".load").get_attribute("data-points") or 0)
    page.request.post(
        f"http://127.0.0.1:{run.server['port']}/v1/chat/completions",
        headers={"Authorization": f"Bearer {run.server['api_key']}"},
        data={"model": "fox", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 200},
    )
    page.wait_for_function(f"+document.querySelector('.load').dataset.points > {before}", timeout=MINUTE_MS)
    expect(server.locator(".load .tiles")).to_contain_text("0 running")
    expect(server.locator("[data-chart=speed] .scatterlayer .trace")).to_have_count(2)


def copy_program(page: Page, server: Any, studio: Studio) -> None:
    """The API says where and how, for each model; the key is nowhere in the page."""
    [run] = studio.store.list("serve")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    server.get_by_text("API for other programs").click()
    expect(server.locator(".api .url")).to_have_text(f"http://127.0.0.1:{run.server['port']}/v1")
    server.locator(".api select").select_option("fox")
    server.get_by_role("tab", name="curl").click()
    expect(server.locator(".api pre.code")).to_contain_text('"model": "fox"')
    server.locator(".copied", has=page.locator("pre.code")).get_by_role("button", name="Copy").click()
    expect(server.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl http://127.0.0.1")
    assert run.server["api_key"] not in page.content()


@pytest.fixture
def ended(studio: Studio) -> Run:
    """A server that failed."""
    run = studio.store.create(ServeConfig(run_name="talker"))
    (run.path / "CLAIM").touch()
    told = {"kind": "ServerDied", "message": "Its engine died.", "hint": "Start it again."}
    write_json(run.path / "error.json", told)
    write_json(run.path / "exit.json", {"code": 1, "signal": None, "reason": "failed", "at": 1.8e9})
    (run.path / "log.txt").write_text("the last words\n")
    return run


def test_a_server_that_failed_says_why_on_a_narrow_page(
    ended: Run, open_page: Callable[..., Page], screenshot: Callable[..., None]
) -> None:
    page = open_page(width=390, dark=True)
    open_servers(page)
    server = page.locator("#servers-list .server")
    expect(server).to_contain_text("Its engine died. Start it again.")
    server.locator("summary").click()
    expect(server.locator("pre.log")).to_have_text("the last words")
    screenshot("servers-390-dark", page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    button = page.locator("#serve-start").bounding_box()
    assert button
    assert button["x"] + button["width"] <= 390
    server.get_by_role("button", name="Remove").click()
    expect(page.locator("#servers-list")).to_contain_text("No server runs")
