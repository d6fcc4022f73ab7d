"""What the studio adds to a model server: to its first token, to four answers at once, to a long answer on the page.

    python -m bench.chat [MODEL]

Direct is a plain HTTP client on one open connection that reads as little as it can. Direct and studio take turns, so
that both meet the same machine; the rows of the page need Chromium and a server that sends faster than any model.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.serving import until_ready
from bench.studio import CHROMIUM, studio
from studio import models
from studio.runs.store import Store
from studio.serving import panes, servers
from studio.serving.client import Sampling, Server
from studio.serving.panes import Pane
from studio.serving.remotes import Remote, Remotes
from studio.settings import ROOT

ROUNDS = 40
VOLLEYS = 5
PANES = 4
LONG_TOKENS = 256
TURN = ({"role": "user", "content": "Tell me a short story about a fox, a lake and a lost key, as slowly as you can."},)
FLOOD = 4000  # as the fake has it
FAKE = ROOT / "tests" / "fakes" / "openai_server.py"

# notes when each pane's chat changes, from the Enter key on; an answer is over when its line says how it ended
WATCH = """(panes) => {
  let begun = null;
  addEventListener("keydown", () => { begun = performance.now(); }, { capture: true, once: true });
  window.seedbedSeen = Array.from({ length: panes }, (_, index) => {
    const seen = { first: 0, last: 0, updates: 0, length: 0, tokens: 0, over: false };
    const [chat, line] = ["", "-figures"].map((end) => document.querySelector(`#chat-${index + 1}${end}`));
    const look = () => {
      const length = [...chat.querySelectorAll(".bot")].reduce((sum, it) => sum + it.textContent.trim().length, 0);
      if (length !== seen.length && begun) {
        seen.last = performance.now() - begun;
        seen.first ||= seen.last;
        seen.updates += 1;
        seen.length = length;
      }
      seen.tokens = +(/(\\d+) tokens? ·/.exec(line.textContent)?.[1] ?? 0);
      seen.over = seen.length > 0 && /finished|cut at/.test(line.textContent);
    };
    for (const place of [chat, line]) {
      new MutationObserver(look).observe(place, { childList: true, subtree: true, characterData: true });
    }
    return seen;
  });
}"""

Row = tuple[str, str, str]


def main(model: str = "seedling") -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        data, saves = Path(folder, "data"), Path(folder, "saves")
        shutil.copytree(ROOT / "data", data)
        with serving(saves, models.resolve(model)) as (server, name):
            rows = [*asyncio.run(first_token_rows(server, name)), *asyncio.run(volley_rows(server, name))]
            rows += page_rows(saves, data, model, server, name)
    print(f"\n{'the studio between a model server and its reader':<66}{'measured':>22}{'goal':>12}")
    for name, measured, goal in rows:
        print(f"{name:<66}{measured:>22}{goal:>12}")


@contextmanager
def serving(saves: Path, model: str) -> Iterator[tuple[Server, str]]:
    """A real server and the name of its model; it ends with the block."""
    run = servers.start(Store(saves), model)
    try:
        asyncio.run(until_ready(run))
        found = servers.endpoint(run)
        assert found
        yield found.server, found.served[0].name
    finally:
        run.stop()


async def first_token_rows(server: Server, model: str) -> list[Row]:
    """One question at a time: the wait for the first piece of text."""
    sampling = Sampling(temperature=0.0, max_tokens=4)
    async with direct(server) as http:

        async def straight() -> float:
            return (await read_directly(http, model, sampling))[0]

        async def through() -> float:
            begun = time.perf_counter()
            async for view in panes.answer(Pane(server, model, TURN, sampling)):
                if view.text:
                    return time.perf_counter() - begun
            raise AssertionError("no answer")

        plain, added = await in_turns(ROUNDS, straight, through)
    difference = [later - earlier for earlier, later in zip(plain, added, strict=True)]
    return [
        ("first token, direct, ms (median)", f"{1e3 * statistics.median(plain):.1f}", ""),
        ("first token, through a pane, ms (median)", f"{1e3 * statistics.median(added):.1f}", ""),
        ("  added, ms (median of the differences)", f"{1e3 * statistics.median(difference):.1f}", "10"),
    ]


async def volley_rows(server: Server, model: str) -> list[Row]:
    """Four answers at once: tokens per second of all together."""
    wanted = [Sampling(temperature=2.0, max_tokens=LONG_TOKENS, seed=seed) for seed in range(PANES)]
    async with direct(server) as http:

        async def straight() -> float:
            return await raw_volley(http, model, wanted)

        async def through() -> float:
            begun = time.perf_counter()
            counts = await asyncio.gather(*(fill_pane(Pane(server, model, TURN, sampling)) for sampling in wanted))
            return sum(counts) / (time.perf_counter() - begun)

        plain, shown = await in_turns(VOLLEYS, straight, through)
    share = statistics.median(through / straight for straight, through in zip(plain, shown, strict=True))
    return [
        (f"{PANES} raw clients, tokens/s together (median)", f"{statistics.median(plain):.0f}", ""),
        (f"{PANES} panes, tokens/s together (median)", f"{statistics.median(shown):.0f}", ""),
        ("  panes / raw clients", f"{share:.1%}", "90%"),
    ]


async def raw_volley(http: httpx.AsyncClient, model: str, wanted: Sequence[Sampling]) -> float:
    """Tokens per second of so many raw clients together."""
    begun = time.perf_counter()
    counts = await asyncio.gather(*(read_directly(http, model, sampling) for sampling in wanted))
    return sum(count for _, count in counts) / (time.perf_counter() - begun)


async def in_turns(
    rounds: int, first: Callable[[], Awaitable[float]], second: Callable[[], Awaitable[float]]
) -> tuple[list[float], list[float]]:
    """Readings of both, taken one after the other and each first in every second round; one of each is thrown away."""
    readings: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        order = (first, second) if turn % 2 else (second, first)
        taken = {measure: await measure() for measure in order}
        readings[0].append(taken[first])
        readings[1].append(taken[second])
    return readings[0][1:], readings[1][1:]


def direct(server: Server) -> httpx.AsyncClient:
    """A client that keeps its connections."""
    headers = {"Authorization": f"Bearer {server.api_key}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=600, trust_env=False)


async def read_directly(http: httpx.AsyncClient, model: str, sampling: Sampling) -> tuple[float, int]:
    """Seconds to the first piece of text, and how many tokens there were."""
    payload = {
        "model": model, "messages": list(TURN), "stream": True, "stream_options": {"include_usage": True},
        **sampling.to_json(),
    }  # fmt: skip
    begun, first, body = time.perf_counter(), 0.0, b""
    async with http.stream("POST", "/v1/chat/completions", json=payload) as response:
        async for piece in response.aiter_raw():
            body += piece
            if not first and b'"content":"' in body.replace(b'"content":""', b""):
                first = time.perf_counter() - begun
    usage = next(line for line in reversed(body.splitlines()) if b'"completion_tokens"' in line)
    return first, int(json.loads(usage.removeprefix(b"data: "))["usage"]["completion_tokens"])


async def fill_pane(pane: Pane) -> int:
    """The tokens of a whole answer."""
    views = [view async for view in panes.answer(pane)]
    assert not views[-1].error, views[-1].error
    return views[-1].tokens


def page_rows(saves: Path, data: Path, pick: str, server: Server, model: str) -> Iterator[Row]:
    """Answers on a page: of a server that needs no time to think, of one that sends 2,000 tokens a second, of vLLM."""
    from playwright.sync_api import sync_playwright

    with fake_server() as address, studio(saves, data) as (_, url), sync_playwright() as playwright:
        for name in ("fast", "flood"):
            Remotes(saves).add(Remote(name, address, name))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{url}/#chat")
        page.locator("#chat-2-remove").click()
        yield from first_words_rows(page)
        yield from long_answer_rows(page, 1)
        for _ in range(PANES - 1):
            page.locator("#chat-add").click()
        page.locator(f"#chat-{PANES}-pane").wait_for()
        yield from long_answer_rows(page, PANES)
        yield from shown_rows(page, pick, server, model)
        browser.close()


def first_words_rows(page: Any) -> Iterator[Row]:
    """From the Enter key to the first word of an answer that was there at once."""
    choose(page, 1, "url:fast")
    waits = [ask(page, 1)[0]["first"] for _ in range(ROUNDS // 4)]
    yield "Enter to the first word on the page, server at once, ms (median)", f"{statistics.median(waits):.0f}", ""


def long_answer_rows(page: Any, panes: int) -> Iterator[Row]:
    """Long answers in so many panes at once, faster than any model writes."""
    for at in range(1, panes + 1):
        choose(page, at, "url:flood")
    seen = [one for _ in range(3) for one in ask(page, panes)]
    rate = statistics.median(FLOOD / (one["last"] - one["first"]) * 1e3 for one in seen)
    updates = statistics.median(one["updates"] / (one["last"] - one["first"]) * 1e3 for one in seen)
    what = "1 pane" if panes == 1 else f"{panes} panes, each"
    yield f"{FLOOD:,} tokens at 2,000/s to {what}: tokens/s on the page", f"{rate:.0f}", "500"
    yield "  page updates a second", f"{updates:.1f}", "25"


def shown_rows(page: Any, pick: str, server: Server, model: str) -> Iterator[Row]:
    """Four answers of the real server on the page, and to raw clients, in turns."""
    page.get_by_text("System prompt, tools and sampling").click()
    for name, value in (("temperature", "2"), ("max-tokens", str(LONG_TOKENS))):
        page.locator(f"#chat-{name} input[type=number]").fill(value)
        page.locator(f"#chat-{name} input[type=number]").blur()
    for at in range(1, PANES + 1):
        choose(page, at, pick)
    shares = []
    for _ in range(VOLLEYS):
        plain = in_a_loop(lambda: one_raw_volley(server, model))
        seen = ask(page, PANES)
        seconds = (max(one["last"] for one in seen) - min(one["first"] for one in seen)) / 1e3
        shares.append(sum(one["tokens"] for one in seen) / seconds / plain)
    yield (
        f"{PANES} panes on the page / {PANES} raw clients, after the first word",
        f"{statistics.median(shares):.1%}",
        "90%",
    )


async def one_raw_volley(server: Server, model: str) -> float:
    """Tokens per second from the first one on, with sampling as the page has it."""
    sampling, begun = Sampling(temperature=2.0, max_tokens=LONG_TOKENS), time.perf_counter()
    async with direct(server) as http:
        told = await asyncio.gather(*(read_directly(http, model, sampling) for _ in range(PANES)))
    seconds = time.perf_counter() - begun - min(first for first, _ in told)
    return sum(count for _, count in told) / seconds


def in_a_loop(work: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """Do it in a thread: Playwright's own loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def choose(page: Any, at: int, name: str) -> None:
    """Choose who answers in a pane."""
    field = page.locator(f"#chat-{at}-pick input")
    field.fill(name)
    field.press("Enter")


def ask(page: Any, panes: int) -> list[dict[str, float]]:
    """Ask once. For each pane: ms from the Enter key to the first and to the last change, and how many there were."""
    page.locator("#chat-clear").click()
    page.locator("#chat-1 .bot").wait_for(state="detached")
    page.locator("#chat-prompt textarea").fill(TURN[0]["content"])
    page.evaluate(WATCH, panes)
    page.locator("#chat-prompt textarea").press("Enter")
    page.wait_for_function("seedbedSeen.every((one) => one.over)", timeout=120_000)
    return [dict(one) for one in page.evaluate("seedbedSeen")]


@contextmanager
def fake_server() -> Iterator[str]:
    """The address of a server whose words cost nothing."""
    process = subprocess.Popen([sys.executable, str(FAKE)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(*sys.argv[1:2])
