"""Servers elsewhere: kept by name, their keys never; and what is said of one that is no model server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from studio.errors import ConfigError, ModelError, RequestFailed, ServingError
from studio.runs.store import Store
from studio.serving import remotes, speaker, voices
from studio.serving.remotes import Remote, Remotes

KEY = "a-key-that-nobody-may-see"
MODELS = json.dumps({"object": "list", "data": [{"id": "fox"}, {"id": "owl"}]})


class Answers(BaseHTTPRequestHandler):
    """A server as the path of its address says: a model server, one with a key, one that is none, one that hangs."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "hangs":
            self.rfile.read(1)  # until the other side gives up
            return
        refused = kind == "guarded" and self.headers["Authorization"] != f"Bearer {KEY}"
        body = "<html><body>It works!</body></html>" if kind == "html" else MODELS
        self.send_response(401 if refused else 200)
        self.end_headers()
        self.wfile.write(b'{"error": "Unauthorized"}' if refused else body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def probed(remote: Remote, timeout_s: float = 5) -> list[str]:
    return asyncio.run(remotes.probe(remote, timeout_s))


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    known = Remotes(tmp_path / "saves")
    assert known.list() == []
    known.add(Remote("owl", "http://b:1/v1/", "owl-7b"))
    known.add(Remote("fox", "HTTPS://a/openai", "fox-1b"))
    assert [each.name for each in known.list()] == ["fox", "owl"]
    assert [each.url for each in known.list()] == ["https://a/openai", "http://b:1"]
    known.add(Remote("owl", "http://c:2", "owl-9b"))
    assert [each.model for each in known.list()] == ["fox-1b", "owl-9b"]
    known.remove("owl")
    known.remove("never there")
    with pytest.raises(ModelError, match="no remote server called 'owl'"):
        known.get("owl")


@pytest.mark.parametrize("text", ["", "[]", '{"remotes": 3}', '{"remotes": [{"name": "x"}, 4, null]}', "{"])
def test_a_damaged_list_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "remotes.json").write_text(text)
    assert Remotes(tmp_path).list() == []


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (("", "http://a", "m"), "name: give it a short name"),
        (("a/b", "http://a", "m"), "name: give it a short name"),
        (("a", "a:80", "m"), "url: write the address as http://host:port"),
        (("a", "file:///etc/passwd", "m"), "url: write the address"),
        (("a", "http://[::1", "m"), "url: write the address"),
        (("a", "http://127.0.0.1:99999", "m"), "url: write the address"),
        (("a", "http://a b:80", "m"), "url: write the address"),
        (("a", "http://me:secret@a", "m"), "url: leave out user"),
        (("a", "http://a/?key=1", "m"), "url: leave out user"),
        (("a", "http://a", " "), "model: name the model"),
        (("a", "http://a", "m", "sk-4711"), "key_env: give the name"),
        (("a", "http://a", "m", "SEEDBED_AUTH"), "key_env: variables that begin with SEEDBED_"),
    ],
)
def test_what_is_wrong_is_named(values: tuple[str, ...], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Remote(*values)


def test_a_key_that_is_pasted_as_a_name_is_neither_kept_nor_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Remotes(tmp_path).add(Remote("a", "http://a", "m", "hf_4711abc"))
    assert "never the key" in str(caught.value)
    assert "4711" not in str(caught.value)
    assert not (tmp_path / "remotes.json").exists()


def test_the_key_is_only_in_the_environment(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOX_KEY", KEY)
    remote = Remote("fox", f"{address}/guarded", "fox", "FOX_KEY")
    Remotes(tmp_path).add(remote)
    assert probed(remote) == ["fox", "owl"]
    assert KEY not in (tmp_path / "remotes.json").read_text()
    assert KEY not in repr(remote.server())
    monkeypatch.setenv("FOX_KEY", "another")
    with pytest.raises(RequestFailed, match="refused the API key"):
        probed(remote)
    monkeypatch.delenv("FOX_KEY")
    with pytest.raises(RequestFailed, match="FOX_KEY, which holds its key, is not set"):
        probed(remote)


@pytest.mark.parametrize(("path", "what"), [("html", "OpenAI"), ("hangs", "did not answer within 1 s")])
def test_a_server_that_is_none_is_told_in_a_sentence(address: str, path: str, what: str) -> None:
    with pytest.raises(RequestFailed, match=what):
        probed(Remote("x", f"{address}/{path}", "x"), timeout_s=1)


def test_an_address_at_which_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="No model server answers"):
        probed(Remote("x", "http://127.0.0.1:9", "x"))


def test_a_remote_one_is_picked_by_name(tmp_path: Path, address: str) -> None:
    store = Store(tmp_path)
    remote = Remote("my fox", f"{address}/v1", "fox")
    Remotes(tmp_path).add(remote)
    assert remote.pick == "url:my fox"
    assert speaker.picked(store, remote.pick).remote == remote
    voice = asyncio.run(voices.open_voice(store, remote.pick, ["seedling", "/nowhere"]))
    assert (voice.server.url, voice.model, voice.wording.to_json()) == (address, "fox", {})
    assert voices.needs(store, [remote.pick]) == []
    assert store.list() == [], "nothing is started for it"
