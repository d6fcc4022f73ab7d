"""The merged model of an adapter that vLLM cannot serve: taken where it was made before, else made by a merge run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import models
from studio.config.load import parse
from studio.config.merge import MergeConfig
from studio.errors import RunError
from studio.models import AdapterInfo
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import servers

POLL_S = 0.2


def find(store: Store, info: AdapterInfo) -> Path | None:
    """The model that a merge run made of exactly this adapter and its base.

    Raises:
        ModelError: a file of the adapter is missing.
    """
    wanted = models.fingerprint(info.path)
    made = (run for run in _merges(store, info) if run.result.get("adapter_sha256") == wanted)
    return next((run.output for run in made if run.output and run.output.is_dir()), None)


async def model(store: Store, info: AdapterInfo, tell: Callable[[dict[str, Any]], None]) -> Path:
    """The merged model's folder. `tell` is given the status of a merge that is waited for.

    Raises:
        RunError: it cannot be merged, and why.
        ModelError: a file of the adapter is missing.
    """
    if found := await asyncio.to_thread(find, store, info):
        return found
    run, shown = await asyncio.to_thread(_begin, store, info), None
    while run.is_active:
        if (status := run.status) != shown:
            shown = status
            tell({**status, "message": f"merging the adapter into its base: {status.get('message', '')}"})
        await asyncio.sleep(POLL_S)
    if run.output:
        return run.output
    raise RunError(f"{info.path} was not merged: {run.reason or f'the merge {run.id} was stopped'}")


def _begin(store: Store, info: AdapterInfo) -> Run:
    """Two panes that want the same adapter wait for the same merge."""
    with servers.alone(store):
        running = (run for run in _merges(store, info) if run.is_active and _adapters_of(run) == [info.path])
        if run := next(running, None):
            return run
        return launchers.begin(store, parse(MergeConfig, {"adapter_name_or_path": str(info.path)}))


def _merges(store: Store, info: AdapterInfo) -> list[Run]:
    """Merges of one whole adapter into its own base as it is, in the base's type, compared with both."""
    return [run for run in store.list("merge") if _is_plain(run.config, info)]


def _is_plain(config: Any, info: AdapterInfo) -> bool:
    base = config.model_name_or_path
    asked = (config.export_dtype, config.dequantize_base, config.weights, config.export_dir, config.verify)
    return asked == ("auto", "none", (1.0,), None, True) and (base is None or models.resolve(base) == info.base)


def _adapters_of(run: Run) -> list[Path]:
    config = run.config
    assert isinstance(config, MergeConfig)
    return [Path(models.resolve(name)) for name in config.adapter_name_or_path]
