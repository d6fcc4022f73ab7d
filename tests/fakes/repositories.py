"""What the Hugging Face hub keeps of models, over a folder: repositories, their large files, who may write.

A repository whose name says so misbehaves: `slow` (large files arrive at 640 kB/s), `breaking` (drops the first upload
of each large file half-way), `full`, `busy`, `sick` (refuse a commit with 403, 429, 500), `forbidden` (cannot be made),
`turncoat` (becomes public although private was asked for), `lossy` (keeps half of what was committed).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

LARGE_BYTES = 20_000
PART_BYTES = 200_000
PIECE_BYTES = 32_768
PAUSE_S = 0.05
ADA = {"type": "user", "name": "ada", "orgs": [{"name": "garden"}], "auth": {"accessToken": {"role": "write"}}}
TOKENS = {
    "open-sesame": ADA,
    "look-only": {**ADA, "auth": {"accessToken": {"role": "read"}}},
    "one-bed": {**ADA, "orgs": [], "auth": {"accessToken": {"role": "fineGrained"}}},
}
REFUSALS = {
    "full": (403, "Private repository storage limit reached"),
    "busy": (429, "Too many requests"),
    "sick": (500, "Internal error"),
}


class Refused(Exception):
    """An answer other than 200, with the hub's own code for what is wrong."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        self.status, self.message, self.code = status, message, code
        super().__init__(message)


class Repositories:
    """All repositories below `root`/models/OWNER/NAME; a public one holds a file `.public`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / "objects"
        self.broken: set[str] = set()
        self.chosen: dict[str, str] = {}

    def whoami(self, token: str) -> dict[str, Any]:
        if token not in TOKENS:
            raise Refused(401, "Invalid credentials in Authorization header")
        return TOKENS[token]

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        folder = self.root / "models" / asked["organization"] / asked["name"]
        if folder.exists():
            raise Refused(409, "You already created this model repo")
        if "forbidden" in folder.name:
            raise Refused(403, "You don't have the rights to create a model under this namespace")
        folder.mkdir(parents=True)
        if asked.get("visibility") != "private" or "turncoat" in folder.name:
            (folder / ".public").touch()
        return {"url": f"/{asked['organization']}/{asked['name']}"}

    def info(self, name: str) -> dict[str, Any]:
        folder = self.folder(name)
        files = [self._described(path, path.relative_to(folder).as_posix()) for path in sorted(_visible(folder))]
        sha = hashlib.sha1(json.dumps(files).encode()).hexdigest()
        private = not (folder / ".public").exists()
        return {"id": name, "sha": sha, "private": private, "siblings": files, "tags": [], "downloads": 0, "likes": 0}

    def preupload(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        folder, files = self.folder(name), []
        for file in asked["files"]:
            there = folder / file["path"]
            large = file["size"] > LARGE_BYTES
            data = there.read_bytes() if there.exists() else None
            oid = None if data is None else sha256(data) if large else _git_hash(data)
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def batch(self, name: str, asked: dict[str, Any], address: str) -> dict[str, Any]:
        self.folder(name)
        return {"transfer": "basic", "objects": [self._action(name, each, address) for each in asked["objects"]]}

    def receive(self, words: list[str], stream: IO[bytes], length: int) -> None:
        """PUT /objects/OID or /objects/OID/PART."""
        oid, part = words[1], "".join(words[2:])
        name = self.chosen[oid]
        target = self.objects / f"{oid}.{part}"
        target.parent.mkdir(exist_ok=True)
        with open(target, "wb") as file:
            for data in _pieces(stream, length):
                file.write(data)
                if "slow" in name:
                    time.sleep(PAUSE_S)
                if "breaking" in name and target.name not in self.broken:
                    self.broken.add(target.name)
                    raise ConnectionError
        if not part:
            self.complete(oid, 1)

    def complete(self, oid: str, parts: int) -> None:
        """Put an object together out of its parts."""
        paths = sorted(self.objects.glob(f"{oid}.*"), key=lambda path: int(path.suffix[1:] or 0))
        data = b"".join(path.read_bytes() for path in paths)
        if len(paths) != parts or sha256(data) != oid:
            raise Refused(400, "what came is not what was announced")
        (self.objects / oid).write_bytes(data)
        print("stored", oid, flush=True)

    def commit(self, name: str, lines: bytes, address: str) -> dict[str, Any]:
        folder = self.folder(name)
        if refusal := next((each for word, each in REFUSALS.items() if word in name), None):
            raise Refused(*refusal)
        for line in map(json.loads, lines.splitlines()[1:]):
            value = line["value"]
            data = base64.b64decode(value["content"]) if line["key"] == "file" else self._object(value["oid"])
            target = folder / value["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data[: len(data) // 2] if "lossy" in name else data)
        print("commit", len(lines.splitlines()) - 1, flush=True)
        return {"commitUrl": f"{address}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}

    def folder(self, name: str) -> Path:
        folder = self.root / "models" / name
        if not folder.is_dir():
            raise Refused(404, "Repository not found", "RepoNotFound")
        return folder

    def _object(self, oid: str) -> bytes:
        return (self.objects / oid).read_bytes()

    def _action(self, name: str, asked: dict[str, Any], address: str) -> dict[str, Any]:
        if (self.objects / asked["oid"]).exists():
            return asked
        self.chosen[asked["oid"]] = name
        href = f"{address}/objects/{asked['oid']}"
        verify = {"href": f"{href}/verify"}
        parts = -(-asked["size"] // PART_BYTES)
        if parts == 1:
            return {**asked, "actions": {"upload": {"href": href}, "verify": verify}}
        urls = {f"{number:05d}": f"{href}/{number}" for number in range(1, parts + 1)}
        header = {"chunk_size": str(PART_BYTES), **urls}
        return {**asked, "actions": {"upload": {"href": f"{href}/complete", "header": header}, "verify": verify}}

    def _described(self, path: Path, name: str) -> dict[str, Any]:
        data = path.read_bytes()
        large = {"size": len(data), "sha256": sha256(data), "pointerSize": 1} if len(data) > LARGE_BYTES else None
        return {"rfilename": name, "size": len(data), "blobId": _git_hash(data), **({"lfs": large} if large else {})}


def bad_head(content: str) -> bool:
    """Whether the head of a README.md is one that the hub refuses: a licence that is none."""
    return bool(re.search(r"^license: (?!apache-2\.0|mit|other)", content, re.MULTILINE))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != ".public")


def _pieces(stream: IO[bytes], length: int) -> Iterator[bytes]:
    while length and (data := stream.read(min(PIECE_BYTES, length))):
        length -= len(data)
        yield data
