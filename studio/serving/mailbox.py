"""Requests to a running server: a file in its requests folder, and a file with the answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import RequestFailed, SidecarNotReady
from studio.files import read_json, write_json
from studio.runs.run import Run

POLL_S = 0.1


async def ask(run: Run, verb: str, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Have a server do `verb`. Its answer, which has `ok` and `message`.

    Raises:
        RequestFailed: it did not answer within the time.
        SidecarNotReady: the server has ended.
    """
    folder = run.path / "requests"
    folder.mkdir(exist_ok=True)
    path = folder / f"{verb}-{uuid.uuid4().hex}.json"
    answer = path.with_suffix(".done.json")
    write_json(path, request)
    deadline = time.monotonic() + timeout_s
    while not (value := read_json(answer)):
        if not run.is_active:
            raise SidecarNotReady(run.reason or f"The model server {run.id} was stopped")
        if time.monotonic() > deadline:
            path.unlink(missing_ok=True)
            raise RequestFailed(f"The model server did not {verb} {request.get('name', '')} within {timeout_s:.0f} s")
        await asyncio.sleep(POLL_S)
    answer.unlink()
    return dict(value)


def pending(folder: Path, *verbs: str) -> list[Path]:
    """Requests of these kinds that wait for an answer, oldest first."""
    found = (path for verb in verbs for path in folder.glob(f"{verb}-*.json") if path.suffixes == [".json"])
    return sorted(found, key=lambda path: path.stat().st_mtime)


def answer(path: Path, value: Mapping[str, Any]) -> None:
    """Answer a request, and forget it."""
    write_json(path.with_suffix(".done.json"), value)
    path.unlink()
