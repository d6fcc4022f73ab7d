"""A run's result as a zip, streamed as it is read: nothing is copied, and a download that broke off can go on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.concurrency import iterate_in_threadpool
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from studio.errors import RunNotFound
from studio.exports import archive
from studio.exports.archive import Archive
from studio.runs.run import Run
from studio.runs.store import Store

ROUTE = "seedbed/zip"
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def url(run: Run) -> str:
    """Where the zip of `run` is, seen from the page."""
    return f"{ROUTE}/{quote(run.id)}"


def result_of(run: Run) -> Path | None:
    """The finished folder of a run, where it lies in the run's own directory and nowhere else."""
    folder = run.output.resolve() if run.output else None
    return folder if folder and folder.is_dir() and run.path.resolve() in folder.parents else None


def serve(app: FastAPI, store: Store) -> None:
    """Answer for the zips of all runs in `store`, to those only who have logged in where that is asked for."""

    def zipped(run_id: str, request: Request) -> Response:
        if not _is_welcome(app, request):
            return PlainTextResponse("Log in first.", 401)
        folder = _result(store, run_id)
        if folder is None:
            return PlainTextResponse(f"{run_id} has no finished result in its own folder.", 404)
        name = f"{run_id}-{folder.name}"
        return _answer(archive.archive(folder, name), name, request)

    app.api_route(f"/{ROUTE}/{{run_id}}", methods=["GET", "HEAD"], include_in_schema=False)(zipped)


def _result(store: Store, run_id: str) -> Path | None:
    try:
        run = store.get(run_id)
    except RunNotFound:
        return None
    return result_of(run) if run.id == run_id else None


def _answer(packed: Archive, name: str, request: Request) -> Response:
    tag, size = f'"{packed.tag}"', packed.size_bytes
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}.zip",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, no-cache",
    }
    start, stop = 0, size
    asked = RANGE.fullmatch(request.headers.get("Range", ""))
    is_part = bool(asked and any(asked.groups()) and request.headers.get("If-Range", tag) == tag)
    if asked and is_part:
        start, stop = _bounds(asked[1], asked[2], size)
        if start >= stop:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    status = 206 if is_part else 200
    if request.method == "HEAD":
        return Response(None, status, headers, "application/zip")
    return StreamingResponse(_closed(archive.read(packed, start, stop)), status, headers, "application/zip")


async def _closed(pieces: Generator[bytes]) -> AsyncIterator[bytes]:
    """Whoever goes away in the middle leaves no file open until the next garbage collection."""
    try:
        async for piece in iterate_in_threadpool(pieces):
            yield piece
    finally:
        pieces.close()


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """From which byte up to which; "-500" means the last 500."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _is_welcome(app: FastAPI, request: Request) -> bool:
    """Gradio knows who has logged in: by the token in a cookie of its own."""
    page = next(each for route in app.routes if isinstance(each := getattr(route, "app", None), gr.routes.App))
    if page.auth is None:
        return True
    names = (f"access-token-{page.cookie_id}", f"access-token-unsecure-{page.cookie_id}")
    return any(request.cookies.get(name) in page.tokens for name in names)
