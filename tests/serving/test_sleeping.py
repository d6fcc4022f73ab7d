"""Sleep and waking, as files ask for them. A server that hears them is a small one of our own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from studio.serving import mailbox
from studio.serving.client import Client, Server
from studio.serving.sleeping import Sleeper


@pytest.fixture
def heard() -> Iterator[tuple[Server, list[str]]]:
    """A server that notes the paths it is asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body = b'{"status": "done"}'
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield Server(f"http://127.0.0.1:{server.server_port}", "key"), paths
        server.shutdown()


def told(server: Server, folder: Path, verbs: list[str], is_able: bool) -> tuple[list[dict[str, object]], list[bool]]:
    """The answers to these requests, in their order, and whether it slept each time it was published."""
    published: list[bool] = []
    answers = []

    async def _go() -> None:
        async with Client(server) as client:
            sleeper = Sleeper(client, folder, is_able)
            for number, verb in enumerate(verbs):
                path = folder / f"{verb}-{number}.json"
                path.write_text("{}")
                await sleeper.answer_requests(lambda: published.append(sleeper.asleep))
                answers.append(json.loads(path.with_suffix(".done.json").read_text()))
                assert not path.exists()

    asyncio.run(_go())
    return answers, published


def test_a_server_sleeps_and_is_woken(heard: tuple[Server, list[str]], tmp_path: Path) -> None:
    server, paths = heard
    answers, published = told(server, tmp_path, ["sleep", "wake"], is_able=True)
    assert all(answer["ok"] for answer in answers)
    assert published == [True, False]
    assert paths == ["/sleep?level=1", "/wake_up"]


def test_one_that_sleeps_is_not_asked_twice(heard: tuple[Server, list[str]], tmp_path: Path) -> None:
    server, paths = heard
    told(server, tmp_path, ["wake", "sleep", "sleep"], is_able=True)
    assert paths == ["/sleep?level=1"]


def test_nothing_is_loaded_into_one_that_sleeps(heard: tuple[Server, list[str]], tmp_path: Path) -> None:
    server, paths = heard
    (tmp_path / "load-7.json").write_text('{"name": "a", "path": "/x"}')
    told(server, tmp_path, ["sleep"], is_able=True)
    assert "wake it first" in (tmp_path / "load-7.done.json").read_text()
    assert paths == ["/sleep?level=1"]


def test_one_that_cannot_sleep_says_what_to_do(heard: tuple[Server, list[str]], tmp_path: Path) -> None:
    server, paths = heard
    answers, published = told(server, tmp_path, ["sleep"], is_able=False)
    assert not answers[0]["ok"]
    assert "enable_sleep_mode" in str(answers[0]["message"])
    assert (paths, published) == ([], [])


def test_a_server_that_refuses_stays_awake(tmp_path: Path) -> None:
    answers, published = told(Server("http://127.0.0.1:1", "key"), tmp_path, ["sleep"], is_able=True)
    assert not answers[0]["ok"]
    assert published == []


def test_only_the_verbs_asked_for_are_pending(tmp_path: Path) -> None:
    for name in ("sleep-1.json", "sleep-1.done.json", "load-2.json", "unload-3.json"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in mailbox.pending(tmp_path, "sleep", "wake")] == ["sleep-1.json"]
    assert {path.name for path in mailbox.pending(tmp_path, "load", "unload")} == {"load-2.json", "unload-3.json"}
