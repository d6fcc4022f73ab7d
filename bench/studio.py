"""The studio as a process: start, memory, chart polls, the way from the start click to the first point, idling.

Prints one table beside the figures of LLaMA-Factory 0.9.5's web UI on a machine of this kind. Needs Chromium for the
rows that involve a page.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from studio.config.train import TrainConfig
from studio.runs.store import Store
from studio.settings import ROOT

STEPS = 100_000
CORES = (0, 1)
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
IDLE_S = 20.0


def main() -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        saves, data = Path(folder, "saves"), Path(folder, "data")
        shutil.copytree(ROOT / "data", data)
        rows = [*start_rows(saves, data), *chart_rows(saves, data), *page_rows(saves, data)]
    print(f"\n{'studio':<58}{'measured':>16}{'goal':>12}{'LLaMA-Factory':>15}")
    for name, measured, goal, other in rows:
        print(f"{name:<58}{measured:>16}{goal:>12}{other:>15}")


Row = tuple[str, str, str, str]


def start_rows(saves: Path, data: Path) -> Iterator[Row]:
    """Process start to the first HTTP 200, and what it holds then."""
    seconds, resident, torch = [], 0.0, False
    for _ in range(5):
        begun = time.perf_counter()
        with studio(saves, data) as (process, _):
            seconds.append(time.perf_counter() - begun)
            resident = psutil.Process(process.pid).memory_info().rss / 1e6
            torch = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
    yield "start to HTTP 200, s (median of 5)", f"{statistics.median(seconds):.2f}", "3.0", "6.0"
    yield "resident memory after it, MB", f"{resident:.0f}", "250", "663"
    yield "torch loaded", "yes" if torch else "no", "no", "yes"


def chart_rows(saves: Path, data: Path) -> Iterator[Row]:
    """Polls of a run with 100,000 steps, over HTTP."""
    run = long_run(saves)
    with studio(saves, data) as (process, url):
        ask = curves_of(url, run)
        first_ms, drawn, cursor = measure(lambda: ask(0), repeat=5)
        nothing_ms, nothing, _ = measure(lambda: ask(cursor), repeat=200)
        server_ms = cpu_ms(process.pid, lambda: ask(cursor), repeat=400)
        append_steps(saves / run / "metrics.jsonl", STEPS + 1, 10)
        ten_ms, ten, _ = measure(lambda: ask(cursor), repeat=200)
    yield "first drawing of 100,000 steps: server + HTTP, ms", f"{first_ms:.0f}", "300", ""
    yield "first drawing, kB", f"{drawn / 1e3:.0f}", "200", ""
    yield "poll, nothing new: processor time of the server, ms", f"{server_ms:.2f}", "2", "461"
    yield "poll, nothing new: whole round trip, ms", f"{nothing_ms:.2f}", "", ""
    yield "poll, nothing new, kB", f"{nothing / 1e3:.2f}", "1.5", "9"
    yield "poll, ten new points: whole round trip, ms", f"{ten_ms:.2f}", "", ""
    yield "poll, ten new points, kB", f"{ten / 1e3:.2f}", "1.5", "9"


def page_rows(saves: Path, data: Path) -> Iterator[Row]:
    """A real page on two cores: start click to first point, then nothing at all."""
    from playwright.sync_api import sync_playwright

    with studio(saves, data, CORES) as (process, url), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_page()
        seconds = [start_to_point(page, url) for _ in range(3)]
        for run in Store(saves).list():
            run.stop_now() if run.is_active else None
        yield (
            "start click to first loss point, 2 cores, s (median of 3)",
            f"{statistics.median(seconds):.1f}",
            "8",
            "10.2",
        )
        yield from reported_start(saves)
        for tab in ("datasets", "runs"):
            page.goto(f"{url}/#{tab}")
            time.sleep(3)
            yield f"idle with one page open ({tab} tab), % of a core", f"{idle_percent(process.pid):.2f}", "1", ""
        browser.close()


def start_to_point(page: Any, url: str) -> float:
    """Seconds from the click on Start to the first point on the page."""
    page.goto("about:blank")  # or a new address after the # would not load the page anew
    page.goto(f"{url}/#train")
    page.locator("#option-dataset input").click()
    page.get_by_role("option", name="identity", exact=True).click()
    page.keyboard.press("Escape")
    for key, text in (("model_name", "Sprout"), ("model_author", "Ada")):
        page.locator(f"#option-{key} textarea, #option-{key} input").fill(text)
    page.get_by_text("Ready", exact=True).wait_for()
    begun = time.perf_counter()
    page.locator("#train-start").click()
    page.wait_for_function("document.querySelector('[data-points]:not([data-points=\"0\"])')", timeout=120_000)
    seconds = time.perf_counter() - begun
    page.locator("#run-stop-now").click()
    page.locator("#run-status .badge.stopped").wait_for(timeout=20_000)
    return seconds


def reported_start(saves: Path) -> Iterator[Row]:
    """Where the worker says the time went."""
    for run in Store(saves).list("train")[:1]:
        lines = [line for line in run.log.read_text().splitlines() if line.startswith("started in")]
        for line in lines:
            yield f"  worker: {line}", "", "", ""


def idle_percent(pid: int) -> float:
    """Share of one core that the studio uses while nothing happens."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(IDLE_S)
    return (sum(process.cpu_times()[:2]) - before) / IDLE_S * 100


def cpu_ms(pid: int, ask: Any, repeat: int) -> float:
    """Processor time that one answer costs the process, milliseconds."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    for _ in range(repeat):
        ask()
    return (sum(process.cpu_times()[:2]) - before) / repeat * 1e3


def measure(ask: Any, repeat: int) -> tuple[float, int, int]:
    """Median milliseconds, bytes of the answer, its cursor."""
    times = []
    for _ in range(repeat):
        begun = time.perf_counter()
        body = ask()
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times), len(body), json.loads(body)["cursor"]


def curves_of(url: str, run: str) -> Any:
    """A function that asks for the curves the way the page does."""
    config = json.load(urllib.request.urlopen(f"{url}/config"))
    component = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "curves")

    def ask(cursor: int) -> bytes:
        body = {"data": [run, cursor], "fn_name": "curves", "component_id": component, "session_hash": "bench"}
        request = urllib.request.Request(
            f"{url}/gradio_api/component_server", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return bytes(urllib.request.urlopen(request).read())

    return ask


def long_run(saves: Path) -> str:
    """A finished run with 100,000 logged steps."""
    run = Store(saves).create(TrainConfig(dataset=("identity",), run_name="long"))
    append_steps(run.metrics, 1, STEPS)
    (run.path / "CLAIM").touch()
    (run.path / "exit.json").write_text('{"code": 0, "signal": null, "reason": "completed", "at": 0}')
    return run.id


def append_steps(path: Path, first: int, count: int) -> None:
    """Step events as the worker writes them."""
    with path.open("a") as file:
        for step in range(first, first + count):
            event = {
                "step": step, "loss": 3 / step**0.3 + random.random() * 0.1, "learning_rate": 2e-4 * (1 - step / 2e5),
                "grad_norm": random.random(), "tokens": step * 4096, "tokens_per_s": 9000 + random.random() * 100,
                "epoch": step / 3e4, "memory_gb": 1.234, "at": time.time(), "type": "step",
            }  # fmt: skip
            file.write(json.dumps(event, separators=(",", ":")) + "\n")


@contextmanager
def studio(saves: Path, data: Path, cores: tuple[int, ...] = ()) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A studio on a free port, answering; gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), "--saves-dir", str(saves), "--data-dir", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    if cores:
        os.sched_setaffinity(process.pid, cores)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url)
        yield process, url
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_for(url: str) -> None:
    """Until the page is there."""
    for _ in range(1200):
        try:
            urllib.request.urlopen(url).read()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"{url} did not come up")


if __name__ == "__main__":
    main()
