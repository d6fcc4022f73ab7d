"""Model servers as the studio sees them: runs of kind "serve" that are found, started, asked and stopped.

Nothing is kept here: a server that another page, or the studio before its restart, has started is found the same
way as one's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models
from studio.config.load import parse
from studio.config.serve import ServeConfig
from studio.errors import RequestFailed, SidecarNotReady
from studio.files import read_json, write_json
from studio.runs import launchers, process
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.serving.adapters import smallest_rank
from studio.serving.client import Server

POLL_S = 0.2
START_TIMEOUT_S = 900.0  # a 7B model compiled for CUDA takes three minutes
LOAD_TIMEOUT_S = 300.0

_starting = threading.Lock()


@dataclass(frozen=True)
class Served:
    """A name that a server answers to. `path` is the model's or adapter's folder (or hub id)."""

    name: str
    path: str
    is_base: bool


@dataclass(frozen=True)
class Endpoint:
    """A server that answers: the run that keeps it up, where it listens, and as what it answers."""

    run: Run
    server: Server
    served: tuple[Served, ...]

    @property
    def base(self) -> str:
        return next(model.path for model in self.served if model.is_base)

    def name_of(self, path: str) -> str | None:
        """The name to ask for the model or adapter in `path`; None where it is not loaded."""
        return next((model.name for model in self.served if model.path == path), None)


def endpoints(store: Store) -> list[Endpoint]:
    """All servers that answer, newest first."""
    return [found for run in store.list("serve") if (found := endpoint(run))]


def endpoint(run: Run) -> Endpoint | None:
    """The run's server; None while it starts, stops, or has ended."""
    value = run.server
    if not value or run.state is not State.RUNNING:
        return None
    served = tuple(Served(model["name"], model["path"], model["base"]) for model in value["models"])
    return Endpoint(run, Server(f"http://{value['host']}:{value['port']}", value["api_key"]), served)


def find(store: Store, base: str) -> Run | None:
    """The newest server for this base model that answers or is starting."""
    path = models.resolve(base)
    return next((run for run in store.list("serve") if run.state is State.RUNNING and _base_of(run) == path), None)


def start(store: Store, base: str, adapter: str | None = None, **options: Any) -> Run:
    """Start a server for a base model, unless there is one: then that one. `options` are ServeConfig's.

    `adapter` is not loaded; the server is only made so that it can take it.

    Raises:
        ConfigError, ModelError
    """
    with _starting:
        if run := find(store, base):
            return run
        if adapter:
            rank = models.check_adapter(Path(models.resolve(adapter))).rank
            options.setdefault("max_lora_rank", smallest_rank(max(rank, 16)))
        return launchers.begin(store, parse(ServeConfig, {"model_name_or_path": base, **options}))


async def starting(run: Run, timeout_s: float = START_TIMEOUT_S) -> AsyncIterator[dict[str, Any]]:
    """The run's status each time it changes, until its server answers.

    Raises:
        SidecarNotReady: it ended instead, with the reason.
    """
    deadline, shown = time.monotonic() + timeout_s, None
    while not endpoint(run):
        if not run.is_active:
            raise SidecarNotReady(run.reason or f"The model server {run.id} was stopped")
        if time.monotonic() > deadline:
            raise SidecarNotReady(f"The model server {run.id} was not ready after {timeout_s:.0f} s; see its log")
        if (status := run.status) != shown:
            shown = status
            yield status
        await asyncio.sleep(POLL_S)


async def open_model(
    store: Store, base: str, adapter: str | None = None, say: Callable[[dict[str, Any]], None] = lambda status: None
) -> tuple[Server, str]:
    """Where, and under which name, a base model or one of its adapters answers; started and loaded if need be.

    `say` is told the status of a server that is starting, and {"message": ...} while an adapter is loaded.

    Raises:
        ConfigError, ModelError, SidecarNotReady, RequestFailed
    """
    run = start(store, base, adapter)
    async for status in starting(run):
        say(status)
    found = _answering(run)
    path = models.resolve(adapter or base)
    name = found.name_of(path)
    if name is None:
        name = _free_name(found, path)
        say({"message": f"loading {name} and checking its answers"})
        await load_adapter(run, name, path)
    return found.server, name


async def load_adapter(run: Run, name: str, path: str, timeout_s: float = LOAD_TIMEOUT_S) -> str:
    """Have a server load an adapter under `name`. What it says, which may be a warning.

    Raises:
        RequestFailed: the adapter is refused, with the reason; the server goes on.
        SidecarNotReady: the server has ended.
    """
    return await _ask(run, "load", {"name": name, "path": path}, timeout_s)


async def unload_adapter(run: Run, name: str, timeout_s: float = LOAD_TIMEOUT_S) -> str:
    """Have a server forget an adapter.

    Raises:
        RequestFailed: it has none of that name.
        SidecarNotReady: the server has ended.
    """
    return await _ask(run, "unload", {"name": name}, timeout_s)


def adapter_name(path: str) -> str:
    """What an adapter is called: its run's id, with the checkpoint's name if it is one; else its folder's name."""
    folder = Path(path)
    if folder.name == "adapter":
        return folder.parent.name
    if folder.parent.name == "checkpoints":
        return f"{folder.parent.parent.name}-{folder.name}"
    return folder.name


def clear_strays(store: Store) -> int:
    """Kill what is left of servers whose nanny and worker were both killed. How many processes that were."""
    lost = [run for run in store.list("serve") if not run.exit and not run.is_active]
    strays = [stray for run in lost for stray in process.of_run(run.path)]
    process.kill(strays)
    return len(strays)


async def _ask(run: Run, verb: str, request: dict[str, str], timeout_s: float) -> str:
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
            raise RequestFailed(f"The model server did not {verb} {request['name']} within {timeout_s:.0f} s")
        await asyncio.sleep(POLL_S / 2)
    answer.unlink()
    if not value["ok"]:
        raise RequestFailed(value["message"])
    return str(value["message"])


def _answering(run: Run) -> Endpoint:
    if found := endpoint(run):
        return found
    raise SidecarNotReady(run.reason or f"The model server {run.id} was stopped")


def _base_of(run: Run) -> str:
    config = run.config
    assert isinstance(config, ServeConfig)
    return models.resolve(config.model_name_or_path)


def _free_name(found: Endpoint, path: str) -> str:
    """Two folders may bear the same name: the second gets some letters of its path's hash."""
    name = adapter_name(path)
    taken = {model.name for model in found.served}
    return name if name not in taken else f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"
