"""A studio in a process of its own and a Chromium without a screen, which fails a test on any error of the page."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    APIResponse,
    Browser,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from studio.runs.store import Store
from studio.settings import ROOT

OUTPUT = ROOT / "tests" / "output"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_S = 60
END_S = 30
SETTLE_MS = 400  # fades of Gradio's
# without a sandbox because containers often allow none; shared memory of containers is small
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
# what Gradio itself says of an upload, and of a page that is left while a queued event is under way; harmless
EXPECTED = ("Method not implemented.", "AbortError: signal is aborted without reason")
expect.set_options(timeout=30_000)  # as long as for an element; its own five seconds are too few on a busy machine


@dataclass
class Studio:
    """A running studio. `restart` and `kill` do what a person or a power cut does; its folders stay."""

    saves: Path
    data: Path
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> Store:
        """Its runs."""
        return Store(self.saves)

    def start(self) -> None:
        """Start it and wait until it answers."""
        folders = ["--data-dir", str(self.data), "--saves-dir", str(self.saves)]
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(self.port), *folders]
        environment = {**os.environ, "GRADIO_TEMP_DIR": str(self.log.parent / "gradio"), "HF_HUB_OFFLINE": "1"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, f"the studio ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"the studio does not answer: {self.log.read_text()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it without a warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)

    def restart(self) -> None:
        """Stop it and start it again at the same address."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="package")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio process for all tests here: a start takes five seconds. A test that wants another one ends it."""
    folder = tmp_path_factory.mktemp("studio")
    data, saves = folder / "data", folder / "saves"
    data.mkdir()
    saves.mkdir()
    host = Studio(saves, data, _free_port(), folder / "studio.log")
    host.start()
    yield host
    if host.process.poll() is None:
        host.kill()


@pytest.fixture
def studio(host: Studio) -> Iterator[Studio]:
    """The studio with the demo data and no runs: all it knows is in its folders. What a test started ends with it."""
    for name in _shipped():
        shutil.copy(ROOT / "data" / name, host.data / name)
    if host.process.poll() is not None:
        host.start()
    yield host
    for run in host.store.list():
        if run.is_active:
            run.stop_now()
    _wait(lambda: not any(run.is_active for run in host.store.list()), "its runs do not end")
    for folder in (host.data, host.saves):
        _empty(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a file. Not for all: while it lives, an event loop runs in this thread, and
    tests elsewhere could not run their own."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: `make system` installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def faults() -> Iterator[list[str]]:
    """What pages did that they must not do: errors, warnings, requests to other hosts. A test that takes the studio
    away from its page clears the list afterwards."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_page(chromium: Browser, studio: Studio, faults: list[str]) -> Iterator[Callable[..., Page]]:
    """A way to open pages: `open_page(width=390, dark=True)`; all are watched for faults."""
    pages: list[Page] = []

    def open_page(width: int = 1280, dark: bool = False) -> Page:
        page = chromium.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        _watch(page, urlsplit(studio.url).netloc, faults)
        page.goto(f"{studio.url}/?__theme={'dark' if dark else 'light'}")
        page.wait_for_selector("#tabs")
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """One page at 1280 px."""
    return open_page()


@pytest.fixture
def screenshot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keep a picture as tests/output/NAME.png: `screenshot(name)` of the page, or `screenshot(name, other_page)`, for
    which none is opened."""

    def screenshot(name: str, of: Page | None = None) -> None:
        of = of or request.getfixturevalue("page")
        OUTPUT.mkdir(exist_ok=True)
        of.wait_for_timeout(SETTLE_MS)
        of.screenshot(path=OUTPUT / f"{name}.png", full_page=True)

    return screenshot


def _watch(page: Page, host: str, faults: list[str]) -> None:
    def see_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(EXPECTED):
            faults.append(f"console {message.type}: {message.text}")

    def see_request(request: Request) -> None:
        place = urlsplit(request.url)
        if place.scheme in ("http", "https", "ws", "wss") and place.netloc != host:
            faults.append(f"request to another host: {request.url}")

    page.on("console", see_message)
    page.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    page.on("request", see_request)


def open_tab(page: Page, name: str, bar: str = "#tabs") -> None:
    """Go to a tab of a row of them, also where a narrow page keeps it in the menu behind the dots."""
    row = page.locator(f"{bar} > .tab-wrapper")
    tab = row.get_by_role("tab", name=name, exact=True)
    menu = row.locator(".overflow-menu > button")
    tab.or_(menu).locator("visible=true").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)  # a page that was just drawn loses a click, and moves tabs into the menu
    if not tab.is_visible():
        menu.click()
        tab = row.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def restart_below(page: Page, studio: Studio) -> None:
    """Restart the studio of an open page, which comes anew by itself once the studio answers."""
    page.wait_for_timeout(2000)  # from an event that is under way Gradio itself would know
    page.evaluate("window.isTheOldOne = true")
    studio.restart()
    page.wait_for_function("!window.isTheOldOne", timeout=60_000)


@contextmanager
def held(page: Page, words: str = "") -> Iterator[list[tuple[Route, APIResponse]]]:
    """Answers to the page's questions that contain `words` reach it at the end of the block, in their order."""
    waiting: list[tuple[Route, APIResponse]] = []
    over = False

    def hold(route: Route) -> None:
        with suppress(Error):  # of a page that is closed meanwhile
            answer = route.fetch()
            if over or words not in answer.text():
                route.fulfill(response=answer)
            else:
                waiting.append((route, answer))

    page.route("**/gradio_api/run/predict*", hold)
    yield waiting
    over = True
    for route, answer in waiting:
        route.fulfill(response=answer)
    page.unroute_all(behavior="wait")


def _wait(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + END_S
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # somebody may write there with a last breath
        else:
            path.unlink()


def _shipped() -> list[str]:
    """Names of the files in data/ that come with the project; what a person added there stays out of tests."""
    listed = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line).name for line in listed.stdout.splitlines()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
