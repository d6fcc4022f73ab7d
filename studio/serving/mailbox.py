"""Requests to a running server: a file in its requests folder, and a file with the answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
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
    answered = _answer_to(path)
    write_json(path, request)
    deadline = time.monotonic() + timeout_s
    try:
        while not (value := read_json(answered)):
            if not run.is_active:
                raise SidecarNotReady(run.reason or f"The model server {run.id} was stopped")
            if time.monotonic() > deadline:
                what = " ".join(filter(None, (verb, request.get("name"))))
                raise RequestFailed(f"The model server did not {what} within {timeout_s:.0f} s")
            await asyncio.sleep(POLL_S)
    finally:  # who gives up, or is cancelled, leaves nothing lying about
        path.unlink(missing_ok=True)
        answered.unlink(missing_ok=True)
    return dict(value)


def pending(folder: Path, *verbs: str) -> list[Path]:
    """Requests of these kinds that wait for an answer, oldest first."""
    found = (path for verb in verbs for path in folder.glob(f"{verb}-*.json") if path.suffixes == [".json"])
    return sorted(found, key=_written_ns)


def answer(path: Path, value: Mapping[str, Any]) -> None:
    """Answer a request and forget it; nobody reads the answer to one that was taken back."""
    if not path.exists():
        return
    with suppress(OSError):  # a full disk must not end a server that answers; who asked gives up by himself
        write_json(_answer_to(path), value)
    path.unlink(missing_ok=True)


def _answer_to(path: Path) -> Path:
    return path.with_suffix(".done.json")


def _written_ns(path: Path) -> int:
    """0 for a request that was taken back meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
