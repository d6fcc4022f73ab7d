"""The model servers of the Chat tab: one card a base model, kept up to date by the page itself."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from studio.config.command import command
from studio.config.serve import ServeConfig
from studio.errors import RunNotFound, SeedbedError
from studio.files import tail
from studio.models import resolve
from studio.runs.run import Run, State
from studio.serving import servers, speaker, voices
from studio.serving.speaker import Speaker
from studio.settings import ASSETS
from studio.ui.context import Context
from studio.ui.tabs.chat.pickers import called, speaker_or_none

LOG_BYTES = 12_000
TEMPLATE = '<div class="servers" role="status" aria-label="Model servers"></div>'


@dataclass(frozen=True)
class Card:
    """What the page shows of one base model's server. `run` is "" where none was started yet.

    `state` is off, starting, ready, stopping or failed; times are in seconds, expected_s the whole start's. `proofs`
    change when something new is known of an adapter: what the panes say of it must be asked for again.
    """

    run: str
    model: str
    state: str
    message: str = ""
    elapsed_s: float = 0.0
    expected_s: float = 0.0
    adapters: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()


def component(ctx: Context) -> gr.HTML:
    """All servers; the value is what `watched` returns, `select` fires when the state of one has changed."""

    def look(asked: list[str]) -> dict[str, Any] | None:
        *picks, fingerprint = map(str, asked)  # several arguments arrive as one list
        picked = speakers(ctx, picks)
        found = {
            "cards": [asdict(card) for card in cards(ctx, picked)],
            "memory": memory_sentence(picked),
            "needs": needs_sentence(ctx, picks),
        }
        now = f"{zlib.crc32(json.dumps(found).encode()):08x}"
        return None if now == fingerprint else {"fingerprint": now, **found}

    def inspect(run_id: str) -> dict[str, str]:
        return details(ctx, str(run_id))

    script = (ASSETS / "web" / "chat.js").read_text(encoding="utf-8")
    return gr.HTML(
        "", html_template=TEMPLATE, js_on_load=script, server_functions=[look, inspect], elem_id="chat-servers"
    )


def watched(*picks: str | None) -> str:
    """A value for the component: whom to look for. It always differs, so that the page looks at once."""
    return json.dumps({"picks": [pick or "" for pick in picks], "at": time.time()})


def speakers(ctx: Context, picks: Iterable[str | None]) -> list[Speaker]:
    """Those of the picks that can be talked to."""
    return [who for pick in picks if (who := speaker_or_none(ctx, pick or ""))]


def cards(ctx: Context, picked: Iterable[Speaker]) -> list[Card]:
    """A card for each base that is needed, then for each other server that is up."""
    runs = ctx.store.list("serve")
    newest = {base: next((run for run in runs if _base(run) == base), None) for base in speaker.bases(picked)}
    others = [(_base(run), run) for run in runs if run.is_active and _base(run) not in newest]
    return [_card(ctx, base, run) for base, run in [*newest.items(), *others]]


def start(ctx: Context, picks: Iterable[str | None]) -> list[Run]:
    """Start every server that is needed and not there yet.

    Raises:
        ModelError, ConfigError, ServingError
    """
    wanted = [speaker.picked(ctx.store, pick) for pick in picks if pick]
    return [speaker.start(ctx.store, base, wanted) for base in speaker.bases(wanted)]


def stop(ctx: Context) -> list[Run]:
    """Ask every server to stop. It is gone within two seconds."""
    active = [run for run in ctx.store.list("serve") if run.is_active]
    for run in active:
        run.stop()
    return active


def details(ctx: Context, run_id: str) -> dict[str, str]:
    """The end of a server's log, what vLLM was given, and the command that starts the same."""
    try:
        run = ctx.store.get(run_id)
    except RunNotFound:
        return {}
    given = tail(run.path / "serve.yaml", LOG_BYTES)
    return {"log": tail(run.log, LOG_BYTES), "yaml": given, "command": command(run.config)}


def memory_sentence(picked: Iterable[Speaker]) -> str:
    """What the servers take that the picks need, said before they start."""
    needed = speaker.bases(picked)
    sizes = [speaker.memory_gb(base) for base in needed]
    several = f"These models need {len(needed)} servers, one for each base model: " if len(needed) > 1 else ""
    if not sizes or None in sizes:
        return f"{several}they share the memory" if several else ""
    return f"{several or 'Takes '}about {' + '.join(f'{size:.1f}' for size in sizes)} GB of memory"


def needs_sentence(ctx: Context, picks: Iterable[str]) -> str:
    """What must be done beside starting servers before all picks can answer: adapters to merge, servers to restart."""
    try:
        needed = voices.needs(ctx.store, [pick for pick in picks if pick])
    except SeedbedError:
        return ""  # whoever is asked then says it
    return " · ".join(need.sentence for need in needed if need.kind != "server")


def _card(ctx: Context, base: str, run: Run | None) -> Card:
    model = called(ctx, base)
    if run is None:
        return Card("", model, "off")
    state = run.state
    if state is State.RUNNING:
        return _ready(ctx, run, model) or _starting(run, model)
    if state in (State.FAILED, State.LOST):
        return Card(run.id, model, "failed", run.reason)
    return Card(run.id, model, "stopping" if state is State.STOPPING else "off")


def _ready(ctx: Context, run: Run, model: str) -> Card | None:
    found = servers.endpoint(run)
    if found is None:
        return None
    adapters = tuple(called(ctx, one.path) for one in found.served if not one.is_base)
    checks = run.server.get("checks", {})
    proofs = tuple(f"{name}: {check.get('reference', '')}" for name, check in checks.items())
    return Card(run.id, model, "ready", adapters=adapters, proofs=proofs)


def _starting(run: Run, model: str) -> Card:
    status = run.status
    elapsed_s = max(0.0, time.time() - run.created.timestamp())
    left_s = float(status.get("eta_s") or 0)
    return Card(run.id, model, "starting", str(status.get("message") or "starting"), elapsed_s, elapsed_s + left_s)


def _base(run: Run) -> str:
    assert isinstance(run.config, ServeConfig)  # list("serve") gives no others
    return resolve(run.config.model_name_or_path or "")
