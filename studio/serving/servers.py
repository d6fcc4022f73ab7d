"""Model servers as the studio sees them: runs of kind "serve" that are found, started, asked and stopped.

Nothing is kept here: a server that another page, or the studio before its restart, has started is found the same
way as one's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models
from studio.config.load import parse
from studio.config.serve import ServeConfig
from studio.errors import AdapterRefused, ModelError, RequestFailed, RestartNeeded, RunError, SidecarNotReady
from studio.files import lock
from studio.models import AdapterInfo
from studio.runs import launchers, process
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.serving import mailbox, sleeping
from studio.serving.backend import choose
from studio.serving.client import Server
from studio.serving.kinds import smallest_rank

VLLM, TRANSFORMERS = "vllm", "huggingface"  # backends, by the configuration's names
POLL_S = 0.2
START_TIMEOUT_S = 900.0  # a 7B model compiled for CUDA takes three minutes
LOAD_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0  # the nanny's ladder ends in SIGKILL well before
LORAS_MAX = 64


@dataclass(frozen=True)
class Served:
    """A name that a server answers to. `path` is the model's or adapter's folder (or hub id)."""

    name: str
    path: str
    is_base: bool


@dataclass(frozen=True)
class Endpoint:
    """A server that answers: the run that keeps it up, where it listens, and as what it answers.

    `backend` is vllm or huggingface, and `why` the reason where nobody asked for it.
    """

    run: Run
    server: Server
    served: tuple[Served, ...]
    backend: str = VLLM
    why: str = ""

    @property
    def base(self) -> str:
        return next(model.path for model in self.served if model.is_base)

    def name_of(self, path: str) -> str | None:
        """The name to ask for the model or adapter in `path`; None where it is not loaded."""
        return next((model.name for model in self.served if model.path == path), None)

    @property
    def template(self) -> str | None:
        """The template, by name or file, that the server asks with in place of its model's own."""
        return _config(self.run).chat_template


def endpoints(store: Store) -> list[Endpoint]:
    """All servers that answer, newest first."""
    return [found for run in store.list("serve") if (found := endpoint(run))]


def endpoint(run: Run) -> Endpoint | None:
    """The run's server; None while it starts, stops, or has ended."""
    value = run.server
    if not value or run.state is not State.RUNNING:
        return None
    served = tuple(Served(model["name"], model["path"], model["base"]) for model in value["models"])
    server = Server(f"http://{value['host']}:{value['port']}", value["api_key"])
    return Endpoint(run, server, served, value.get("backend", VLLM), value.get("why", ""))


def find(store: Store, base: str, backend: str | None = None) -> Run | None:
    """The newest server for this base model that answers or is starting: of this backend, or else vLLM's first."""
    path = models.resolve(base)
    found = [run for run in store.list("serve") if run.state is State.RUNNING and _base_of(run) == path]
    if backend:
        return next((run for run in found if backend_of(run) == backend), None)
    return min(found, key=lambda run: backend_of(run) != VLLM, default=None)


def up(store: Store, config: ServeConfig) -> Run | None:
    """The server that answers, or is starting, in place of one so configured; with `auto` of either backend."""
    asked = None if config.infer_backend == "auto" else config.infer_backend
    return find(store, config.model_name_or_path, asked)


def backend_of(run: Run) -> str:
    """Who serves: vllm or huggingface."""
    return str(run.server.get("backend") or choose(_config(run)).name)


def start(store: Store, base: str, **options: Any) -> Run:
    """Start a server for a base model, unless there is one: then that one. `options` are ServeConfig's.

    Raises:
        ConfigError
    """
    return begin(store, parse(ServeConfig, {"model_name_or_path": base, **options}))


def begin(store: Store, config: ServeConfig) -> Run:
    """Start a server as configured, unless one for its model and backend is up or coming up: then that one."""
    with alone(store):
        return up(store, config) or launchers.begin(store, config)


def restart(store: Store, run: Run, **options: Any) -> Run:
    """Stop a server and start the same with `options` of ServeConfig changed; its adapters are loaded again.

    Of a server that has ended this is another start, unless somebody was quicker.

    Blocks until the old one is gone, some seconds at most.

    Raises:
        ConfigError: the options are wrong; nothing was stopped.
        RunError: it does not end.
    """
    values = {**_config(run).model_dump(mode="json"), "adapters": _held(run), **options}
    config = parse(ServeConfig, values)
    with alone(store):
        if not run.is_active and (other := up(store, config)):
            return other  # somebody else has pressed the same button
        _end(run)
        return launchers.begin(store, config)


def alone(store: Store) -> AbstractContextManager[Any]:
    """Wait until nobody else, in this process or another, is deciding whether to start something, and be the one."""
    return lock(store.saves / ".starting")


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


async def answering(run: Run, tell: Callable[[dict[str, Any]], None] = lambda status: None) -> Endpoint:
    """A server once it answers. `tell` is given the status of one that is starting.

    Raises:
        SidecarNotReady: it ended instead.
    """
    async for status in starting(run):
        tell(status)
    if sleeping.is_asleep(run):
        tell({"message": "waking the server"})
        await sleeping.wake(run)
    if found := endpoint(run):
        return found
    raise SidecarNotReady(run.reason or f"The model server {run.id} was stopped")


async def name_of(found: Endpoint, path: str, tell: Callable[[dict[str, Any]], None] = lambda status: None) -> str:
    """The name under which a server answers as the model or adapter in `path`, loaded if need be.

    Raises:
        RestartNeeded: it has no room for that adapter as it was started.
        AdapterRefused: it cannot serve adapters of that kind.
        RequestFailed, SidecarNotReady
    """
    if name := found.name_of(path):
        return name
    if lack := shortage(found.run, models.adapter_info(Path(path))):
        raise lack
    name = _free_name(found, path)
    tell({"message": f"loading {name} and checking its answers"})
    await load_adapter(found.run, name, path)
    return name


def backend_for(store: Store, base: str) -> str:
    """Who serves a base model, or would."""
    run = find(store, base)
    return backend_of(run) if run else choose(parse(ServeConfig, {"model_name_or_path": base})).name


def holds(run: Run, path: str) -> bool:
    """Whether a server answers as the model or adapter in `path`."""
    found = endpoint(run)
    return found is not None and found.name_of(path) is not None


def shortage(run: Run, info: AdapterInfo) -> RestartNeeded | None:
    """With which options a server would have to be started again to take one more adapter; None where it can."""
    config, found = _config(run), endpoint(run)
    if backend_of(run) != VLLM:
        return None
    held = sum(not model.is_base for model in found.served) if found else len(config.adapters)
    options: dict[str, Any] = {}
    said = []
    if info.rank > config.max_lora_rank:
        options["max_lora_rank"] = smallest_rank(info.rank)
        said.append(f"the adapter has rank {info.rank} and the server takes ranks up to {config.max_lora_rank}")
    if held >= config.max_loras:
        options["max_loras"] = min(held + 1, LORAS_MAX)
        said.append(f"the server already holds {held} adapters, as many as it was started for")
    if not options:
        return None
    change = ", ".join(f"{key}={value}" for key, value in options.items())
    return RestartNeeded(
        f"{' and '.join(said).capitalize()}: it must be started again with {change}, which takes about as long as its "
        "first start",
        run.id,
        options,
    )


async def load_adapter(run: Run, name: str, path: str, timeout_s: float = LOAD_TIMEOUT_S) -> str:
    """Have a server load an adapter under `name`. What it says, which may be a warning.

    Raises:
        RequestFailed: the adapter is refused, with the reason; the server goes on.
        AdapterRefused: it cannot serve adapters of that kind.
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
    value = await mailbox.ask(run, verb, request, timeout_s)
    if not value["ok"]:
        raise AdapterRefused(value["message"]) if value.get("refused") else RequestFailed(value["message"])
    return str(value["message"])


def _end(run: Run) -> None:
    run.stop()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while run.is_active:
        if time.monotonic() > deadline:
            raise RunError(f"{run.id} did not end within {STOP_TIMEOUT_S:.0f} s: stop it at once, then start anew")
        time.sleep(POLL_S)


def _config(run: Run) -> ServeConfig:
    config = run.config
    assert isinstance(config, ServeConfig)
    return config


def _base_of(run: Run) -> str:
    return models.resolve(_config(run).model_name_or_path)


def _held(run: Run) -> list[dict[str, str]]:
    """The adapters that a server holds, or was to hold; a folder that is gone or spoilt would keep it from starting."""
    found = endpoint(run)
    served = [(model.name, model.path) for model in found.served if not model.is_base] if found else []
    asked = [(adapter.name, models.resolve(adapter.path)) for adapter in _config(run).adapters]
    return [{"name": name, "path": path} for name, path in (served if found else asked) if _is_adapter(path)]


def _is_adapter(path: str) -> bool:
    try:
        models.adapter_info(Path(path))
    except ModelError:
        return False
    return True


def _free_name(found: Endpoint, path: str) -> str:
    """Two folders may bear the same name: the second gets some letters of its path's hash."""
    name = adapter_name(path)
    taken = {model.name for model in found.served}
    return name if name not in taken else f"{name}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"
