"""The routes of the Hugging Face hub and of ModelScope that a download of a data set needs, over a folder; and those
of the Hugging Face hub that an upload of a model needs (see repositories.py).

    python hub.py FOLDER      prints its port, then serves FOLDER/OWNER/NAME until killed

A set whose name says so misbehaves: `private` (wants the token `open-sesame`), `gated` (refuses all), `breaking`
(drops each connection after 100,000 bytes), `endless` (a drop of data every 0.1 s), `lying` (sends other bytes than it
announced). FOLDER/OWNER/NAME@parquet is the hub's own parquet copy of a set. Every request is logged to stdout.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from repositories import Refused, Repositories, bad_head

TOKEN = "Bearer open-sesame"
BREAK_BYTES = 100_000
PAGE = 200


class Handler(BaseHTTPRequestHandler):
    """One thread per request."""

    root = Path()
    models: Repositories

    def do_HEAD(self) -> None:
        self.answer(200, b"")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        words = [unquote(word) for word in url.path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        print(self.path, self.headers.get("Range", ""), flush=True)
        if words == ["api", "whoami-v2"]:
            self.told(lambda: self.models.whoami(self.token))
        elif words[:2] == ["api", "models"]:
            self.told(lambda: self.models.info("/".join(words[2:4])))
        elif words[:3] == ["api", "v1", "datasets"]:
            self.modelscope("/".join(words[3:5]), words[5:], query)
        elif words[:2] == ["api", "datasets"]:
            revision = words[5] if words[4:5] == ["revision"] else ""
            self.listing("/".join(words[2:4]) + ("@parquet" if "parquet" in revision else ""))
        elif words[0] == "datasets":
            copy = "@parquet" if words[4] == "copy" else ""
            self.send(self.root / ("/".join(words[1:3]) + copy), "/".join(words[5:]))
        else:
            self.answer(404, b"{}")

    def do_PUT(self) -> None:
        print("PUT", self.path, flush=True)
        try:
            self.models.receive(self.path.strip("/").split("/"), self.rfile, int(self.headers["Content-Length"]))
        except ConnectionError:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("ETag", "whole")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        print("POST", self.path, flush=True)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        words = self.path.strip("/").split("/")
        self.told(lambda: self.written(words, body))

    def written(self, words: list[str], body: bytes) -> dict[str, Any]:
        if words[0] != "objects":
            self.models.whoami(self.token)
        if words[:2] == ["api", "models"] and words[4] == "commit":
            return self.models.commit("/".join(words[2:4]), body, self.address)
        asked = json.loads(body)
        if words == ["api", "repos", "create"]:
            return self.models.create(asked)
        if words == ["api", "validate-yaml"]:
            return {"errors": [{"message": '"license" is none that is known'}]} if bad_head(asked["content"]) else {}
        if words[:2] == ["api", "models"] and words[4] == "preupload":
            return self.models.preupload("/".join(words[2:4]), asked)
        if words[2:] == ["info", "lfs", "objects", "batch"]:
            return self.models.batch("/".join(words[:2]).removesuffix(".git"), asked, self.address)
        if words[2:] == ["complete"]:
            self.models.complete(words[1], len(asked["parts"]))
        return {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def told(self, work: Callable[[], dict[str, Any]]) -> None:
        try:
            found = work()
            self.answer(400 if "errors" in found else 200, json.dumps(found).encode())
        except Refused as refusal:
            self.answer(refusal.status, json.dumps({"error": refusal.message}).encode(), refusal.code, refusal.message)

    def listing(self, name: str) -> None:
        folder = self.root / name
        if not self.open_to_caller(folder):
            return
        files = [
            {"rfilename": path, "size": len(data), "blobId": "x", "lfs": {"size": len(data), "sha256": sha(data),
             "pointerSize": 1}} for path, data in contents(folder)
        ]  # fmt: skip
        info = {"id": name, "sha": "copy" if "@" in name else "main", "siblings": files, "cardData": card(folder),
                "tags": [], "private": False, "downloads": 0, "likes": 0}  # fmt: skip
        self.answer(200, json.dumps(info).encode())

    def modelscope(self, name: str, words: list[str], query: dict[str, str]) -> None:
        folder = self.root / name
        if words == ["repo"]:
            self.send(folder, query["FilePath"])
        elif self.open_to_caller(folder):
            files = [
                {"Path": path, "Size": len(data), "Type": "blob", "Sha256": sha(data)}
                for path, data in contents(folder)
            ]
            start = (int(query["PageNumber"]) - 1) * PAGE
            page = {"Code": 200, "Success": True, "Data": {"Files": files[start : start + PAGE]}}
            self.answer(200, json.dumps(page).encode())

    def open_to_caller(self, folder: Path) -> bool:
        if not folder.is_dir() or ("private" in folder.name and self.headers.get("Authorization") != TOKEN):
            # as the hub does: what is private is not told from what is not there
            self.answer(404, b'{"Code": 404, "error": "Repository not found"}', "RepoNotFound")
            return False
        if "gated" in folder.name:
            self.answer(403, b'{"Code": 403, "error": "Access is restricted"}', "GatedRepo")
            return False
        return True

    def send(self, folder: Path, path: str) -> None:
        if not self.open_to_caller(folder):
            return
        data = (folder / path).read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        piece = data[start:]
        if "breaking" in folder.name:
            piece = piece[:BREAK_BYTES]
        if "lying" in folder.name:
            piece = piece[::-1]
        if "endless" in folder.name:
            self.drip(piece)
        else:
            self.wfile.write(piece)
        self.close_connection = True

    def drip(self, data: bytes) -> None:
        try:
            for at in range(0, len(data), 10):
                self.wfile.write(data[at : at + 10])
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            print("gone", flush=True)

    def answer(self, status: int, body: bytes, error: str = "", message: str = "") -> None:
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        if error or message:
            self.send_header("X-Error-Message", message or "not for you")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def contents(folder: Path) -> list[tuple[str, bytes]]:
    """All files below `folder`, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]


def card(folder: Path) -> dict[str, Any]:
    """The head of the README."""
    readme = folder / "README.md"
    head = readme.read_text().split("---") if readme.exists() else []
    return yaml.safe_load(head[1]) if len(head) > 2 else {}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    Handler.models = Repositories(Handler.root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
