"""The model servers as cards: how far each start is, who answers, what can be done, its load and its API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio import models
from studio.config.command import command
from studio.config.serve import ServeConfig
from studio.errors import AdapterRefused, ModelError, RestartNeeded, ServingError
from studio.files import tail
from studio.runs import loads, outputs
from studio.runs.run import Run, State
from studio.serving import servers, sleeping, snippets, voices
from studio.serving.servers import Endpoint, Served
from studio.serving.speaker import speaker
from studio.serving.wording import wording
from studio.ui import panel
from studio.ui.context import Context
from studio.ui.panel import Answer
from studio.ui.tabs.chat.pickers import called

ENDED_MAX = 4
LOG_BYTES = 12_000


@dataclass(frozen=True)
class Model:
    """A name that a server answers to; `check` is what server.json says of an adapter's proof."""

    name: str
    called: str
    is_base: bool
    check: dict[str, Any] | None


@dataclass(frozen=True)
class Card:
    """One server. `state` is queued, starting, ready, asleep, stopping, stopped, failed or lost; `phases` and `eta_s`
    are those of its status while it starts; `loadable` are (label, folder) of adapters that it could take."""

    run: str
    name: str
    base: str
    state: str
    message: str
    eta_s: float
    phase: str
    phases: tuple[dict[str, Any], ...]
    says: str
    models: tuple[Model, ...]
    loadable: tuple[tuple[str, str], ...]
    can_sleep: bool


def draw(ctx: Context) -> gr.HTML:
    """The panel of all servers. It looks again at once when it hears the page's event seedbed:look."""

    def look(known: str) -> Answer:
        return panel.unless_known(known, {"cards": [asdict(card) for card in cards(ctx)]})

    async def act(asked: list[Any]) -> Answer:
        return await on_act(ctx, *asked)

    def load(asked: list[Any]) -> Answer:
        return on_load(ctx, *asked)

    def api(asked: list[str]) -> Answer:
        return on_api(ctx, *asked)

    def inspect(run_id: str) -> Answer:
        return on_inspect(ctx, run_id)

    shared = ("plot", "copying", "servers_load", "servers_api")
    return panel.draw("servers", [look, act, load, api, inspect], shared, elem_id="servers-list")


def cards(ctx: Context) -> list[Card]:
    """Every server that is up, and of each other base model the last that was, newest first."""
    return [_card(ctx, run, config) for run, config in _worth_telling(ctx)]


async def on_act(ctx: Context, verb: str, run_id: str, what: Any = None) -> Answer:
    """Do one of ACTS with a server; `what` is an adapter's folder or name, or the options of a restart. Answers with a
    sentence; or why not, and with the `options` that a restart needs first, or that a merge (`merges`) is the way."""
    run = ctx.store.get(run_id)
    try:
        return {"message": await ACTS[verb](ctx, run, what)}
    except RestartNeeded as needed:
        return {"error": str(needed), "options": needed.options}
    except AdapterRefused as refused:
        return {"error": str(refused), "merges": what}


def on_load(ctx: Context, run_id: str, cursor: Sequence[float] | None) -> Answer:
    """What a server had to do since `cursor`, as `loads` tells it."""
    path = ctx.store.get(run_id).metrics
    return loads.since(path, cursor) if cursor else loads.overview(path)


def on_api(ctx: Context, run_id: str, model: str = "") -> Answer:
    """How other programs ask a server, as `model` or its base; the key itself is no part of it.

    Raises:
        ServingError: it does not answer now.
    """
    run = ctx.store.get(run_id)
    found = servers.endpoint(run)
    if found is None:
        raise ServingError("The server does not answer: its address is known while it does")
    chosen = next((each for each in found.served if each.name == model), found.served[0])
    offered = snippets.snippets(found.server.url, chosen.name, _options(found, chosen))
    return {
        "url": f"{found.server.url}/v1",
        "models": [each.name for each in found.served],
        "model": chosen.name,
        "key": snippets.key_command(run.id),
        "snippets": [asdict(each) for each in offered],
    }


def on_inspect(ctx: Context, run_id: str) -> Answer:
    """The end of a server's log, the options file that it was given, and the command that starts the same."""
    run = ctx.store.get(run_id)
    given = tail(run.path / "serve.yaml", LOG_BYTES)
    return {"log": tail(run.log, LOG_BYTES), "yaml": given, "command": command(run.config)}


def _worth_telling(ctx: Context) -> list[tuple[Run, ServeConfig]]:
    found = [(run, run.config) for run in ctx.store.list("serve")]
    known = [(run, config) for run, config in found if isinstance(config, ServeConfig)]
    up = [(run, config) for run, config in known if run.is_active]
    told, ended = {_base(config) for _, config in up}, []
    for run, config in known:
        if _base(config) not in told:
            told.add(_base(config))
            ended.append((run, config))
    return [*up, *ended[:ENDED_MAX]]


def _base(config: ServeConfig) -> str:
    return models.resolve(config.model_name_or_path)


def _card(ctx: Context, run: Run, config: ServeConfig) -> Card:
    found, status, server, state = servers.endpoint(run), run.status, run.server, run.state
    base = _base(config)
    checks = server.get("checks", {})
    return Card(
        run=run.id,
        name=run.name,
        base=called(ctx, base),
        state=_state(run, state),
        message=run.reason or str(status.get("message", "")),
        eta_s=float(status.get("eta_s") or 0),
        phase=str(status.get("phase", "")),
        phases=() if found else tuple(status.get("phases", ())),
        says=found.why if found else "",
        models=tuple(_model(ctx, each, checks.get(each.name)) for each in found.served) if found else (),
        loadable=tuple(_loadable(ctx, base)) if found else (),
        can_sleep=sleeping.can_sleep(run),
    )


def _state(run: Run, state: State) -> str:
    if state is not State.RUNNING:
        return str(state)
    if sleeping.is_asleep(run):
        return "asleep"
    return "ready" if run.server else "starting"


def _model(ctx: Context, served: Served, check: dict[str, Any] | None) -> Model:
    return Model(served.name, called(ctx, served.path), served.is_base, check)


def _loadable(ctx: Context, base: str) -> Iterator[tuple[str, str]]:
    """Adapters that trainings on this base have made, and the checkpoints of those that are not done."""
    for output in outputs.adapters(ctx.store):
        if _base_of(output.path) == base:
            yield called(ctx, str(output.path)), str(output.path)
    for run in ctx.store.list("train"):
        for path in reversed(run.checkpoints() if run.is_active else []):
            if _base_of(path) == base:
                yield f"{run.name} · {path.name}", str(path)


def _base_of(adapter: Path) -> str | None:
    """None for what is no adapter."""
    try:
        return models.adapter_info(adapter).base
    except ModelError:
        return None


def _options(found: Endpoint, served: Served) -> dict[str, Any]:
    """What a request needs besides, so that the model is asked in the words that it has learnt."""
    return wording(speaker(served.path), given=found.template).to_json()


async def _load(ctx: Context, run: Run, path: str) -> str:
    found = servers.endpoint(run)
    if found is None:
        raise ServingError("The server does not answer yet: wait until it is ready")
    return f"{await servers.name_of(found, models.resolve(path))} is loaded"


async def _merge(ctx: Context, run: Run, path: str) -> str:
    """Serve an adapter that vLLM cannot take merged into its base, by a server of its own; takes minutes."""
    return (await voices.open_voice(ctx.store, path)).says


async def _unload(ctx: Context, run: Run, name: str) -> str:
    return await servers.unload_adapter(run, name)


async def _stop(ctx: Context, run: Run, _: None) -> str:
    run.stop()
    return "stopping"


async def _restart(ctx: Context, run: Run, changed: dict[str, Any] | None) -> str:
    """`changed` are options of its configuration; none to start the same again."""
    again = await asyncio.to_thread(servers.restart, ctx.store, run, **(changed or {}))
    return f"{again.name} starts again"


async def _sleep(ctx: Context, run: Run, _: None) -> str:
    await sleeping.sleep(run)
    return "asleep: it wakes with the next question of the Compare page, or with Wake"


async def _wake(ctx: Context, run: Run, _: None) -> str:
    await sleeping.wake(run)
    return "awake"


async def _dismiss(ctx: Context, run: Run, _: None) -> str:
    ctx.store.trash(run)
    return ""


ACTS: dict[str, Callable[[Context, Run, Any], Awaitable[str]]] = {
    "load": _load,
    "merge": _merge,
    "unload": _unload,
    "stop": _stop,
    "restart": _restart,
    "sleep": _sleep,
    "wake": _wake,
    "dismiss": _dismiss,
}
