"""A studio that other machines can reach: a login stands before the page, its data and its charts."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from studio.ui.login import FREE_FAILURES, Login
from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch, studio: Studio) -> Iterator[Studio]:
    monkeypatch.setenv("SEEDBED_AUTH", "ada:correct horse")
    studio.restart()
    yield studio
    studio.kill()  # the next test starts one without a login


def test_login_stands_before_everything(guarded: Studio, chromium: Browser) -> None:
    body = json.dumps({"data": ["x", 0], "fn_name": "curves", "component_id": 1, "session_hash": "s"}).encode()
    request = urllib.request.Request(
        f"{guarded.url}/gradio_api/component_server", body, {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 401
    page = chromium.new_page()
    page.goto(guarded.url)
    page.get_by_label("username").fill("ada")
    page.get_by_label("password").fill("wrong")
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Incorrect").wait_for()
    page.get_by_label("username").fill("ada")
    page.get_by_label("password").fill("correct horse")
    page.get_by_role("button", name="Login").click()
    page.locator("#tabs").wait_for()
    page.close()


def test_guessing_is_slowed() -> None:
    login = Login(("ada", "correct horse"))
    assert login("ada", "correct horse")
    for _ in range(FREE_FAILURES):
        assert not login("ada", "guess")
    assert not login("ada", "correct horse")
    login.failures = [at - 61 for at in login.failures]
    assert login("ada", "correct horse")
