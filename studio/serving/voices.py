"""The way to get somebody to answer: a server that is up and awake, the adapter loaded and proved, the words to ask in.

What vLLM cannot serve as an adapter is merged first; what cannot be merged is answered by Transformers. What a pick
needs can be looked at before anything is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from studio import models
from studio.errors import AdapterRefused, RunError, SeedbedError
from studio.models import AdapterInfo
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import kinds, merged, servers, speaker
from studio.serving.client import Server
from studio.serving.kinds import Kind, Way
from studio.serving.speaker import Speaker
from studio.serving.wording import SERVERS_OWN, Wording, wording

Tell = Callable[[dict[str, Any]], None]
AS_ADAPTER = Kind(Way.ADAPTER)


@dataclass(frozen=True)
class Voice:
    """Where somebody answers, under which name, and how it is asked. `says`: what a person should know of that."""

    server: Server
    model: str
    wording: Wording
    says: str = ""


@dataclass(frozen=True)
class Need:
    """One thing that a pick needs first. `memory_gb` is what a server will take, where that is known.

    `options` are those of the configuration with which the server of run `run_id` must be started again.
    """

    kind: Literal["server", "restart", "merge"]
    pick: str
    sentence: str
    base: str = ""
    memory_gb: float | None = None
    run_id: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


async def open_voice(store: Store, pick: str, together: Sequence[str] = (), tell: Tell = lambda status: None) -> Voice:
    """Have `pick` answer; what is not there yet is started, woken, loaded or merged. `together` answer beside it.

    `tell` is given the status of what is waited for: {"message": ...}, often with "phase" and "eta".

    Raises:
        ModelError, ConfigError: who is picked, or its folder, is at fault.
        RestartNeeded: its server must be started again with other options.
        SidecarNotReady, RequestFailed: the server does not start, or refuses it.
    """
    # in threads, all that looks through runs and models: other answers are streaming in this loop
    who = await asyncio.to_thread(speaker.picked, store, pick)
    if who.remote:
        return Voice(who.remote.server(), who.remote.model, SERVERS_OWN)
    others, kind = await asyncio.to_thread(lambda: (list(_found(store, together)), _kind(store, who)))
    if kind.way is Way.ADAPTER:
        try:
            return await _answering(store, who, others, tell)
        except AdapterRefused as error:
            kind = Kind(Way.MERGED, str(error))
    if kind.way is Way.MERGED:
        return await _merged(store, who, others, tell, kind.why)
    return await _stood_in(store, who, others, tell, kind.why)


def needs(store: Store, picks: Sequence[str]) -> list[Need]:
    """What must be done before all of them can answer, in the order in which it is done.

    Picks that nobody can answer to are passed over: `open_voice` says what is wrong with them.
    """
    found: dict[tuple[str, str, str], Need] = {}
    for pick in dict.fromkeys(picks):
        for who in _found(store, [pick]):
            for need in _needed(store, pick, who):
                found.setdefault((need.kind, need.sentence, need.run_id), need)
    return list(found.values())


async def _answering(store: Store, who: Speaker, others: Sequence[Speaker], tell: Tell, **options: Any) -> Voice:
    """From the server of its base, which is started with `options` if there is none."""
    run = await asyncio.to_thread(_begun, store, who, others, options)
    found = await servers.answering(run, tell)
    model = await servers.name_of(found, who.adapter or who.base, tell)
    on_transformers = "answered by Transformers, whose server is up" if found.backend != servers.VLLM else ""
    return Voice(found.server, model, wording(who, others, found.template), found.why or on_transformers)


def _begun(store: Store, who: Speaker, others: Sequence[Speaker], options: Mapping[str, Any]) -> Run:
    sharing = [who, *(_as_served(store, other) for other in others)]
    return speaker.start(store, who.base, sharing, **options)


async def _merged(store: Store, who: Speaker, others: Sequence[Speaker], tell: Tell, why: str) -> Voice:
    try:
        folder = await merged.model(store, _info(who), tell)
    except RunError as error:
        return await _stood_in(store, who, others, tell, f"{why}, and {error}")
    voice = await _answering(store, speaker.speaker(str(folder)), others, tell)
    return replace(voice, says=f"merged into its base, because {why}")


async def _stood_in(store: Store, who: Speaker, others: Sequence[Speaker], tell: Tell, why: str) -> Voice:
    voice = await _answering(store, who, others, tell, infer_backend=servers.TRANSFORMERS)
    return replace(voice, says=f"answered by Transformers, because {why}")


def _kind(store: Store, who: Speaker) -> Kind:
    """The way for whoever is picked; Transformers, where it holds the base already, takes any adapter."""
    if not who.adapter or servers.backend_for(store, who.base) != servers.VLLM:
        return AS_ADAPTER
    return kinds.kind(_info(who))


def _info(who: Speaker) -> AdapterInfo:
    assert who.adapter
    return models.adapter_info(Path(who.adapter))


def _as_served(store: Store, who: Speaker) -> Speaker:
    """One that answers from a server of its own counts as one more base, and leaves its rank to nobody."""
    if who.remote or _kind(store, who).way is Way.ADAPTER:
        return who
    return replace(who, base=f"{who.base}:{who.adapter}", rank=0)


def _needed(store: Store, pick: str, who: Speaker) -> Iterator[Need]:
    if who.remote:
        return
    kind = _kind(store, who)
    if kind.way is Way.MERGED:
        folder = merged.find(store, _info(who))
        if folder is None:
            yield Need("merge", pick, f"{pick} is merged into its base first, because {kind.why}", who.base)
            yield _server(pick, str(who.adapter), "of the merged model", speaker.memory_gb(who.base))
            return
        who = speaker.speaker(str(folder))
    backend = servers.TRANSFORMERS if kind.way is Way.STAND_IN else None
    run = servers.find(store, who.base, backend)
    name = models.display_name(who.base)
    if run is None:
        what = f"of {name}" + (f" on Transformers (because {kind.why})" if kind.way is Way.STAND_IN else "")
        yield _server(pick, name, what, speaker.memory_gb(who.base))
    elif who.adapter and not servers.holds(run, who.adapter) and (lack := servers.shortage(run, _info(who))):
        yield Need("restart", pick, str(lack), name, run_id=run.id, options=lack.options)


def _server(pick: str, base: str, what: str, memory_gb: float | None) -> Need:
    takes = f" and takes about {memory_gb:.1f} GB" if memory_gb else ""
    return Need("server", pick, f"A server {what} is started{takes}", base, memory_gb)


def _found(store: Store, picks: Sequence[str]) -> Iterator[Speaker]:
    """A pick that is damaged must not keep the others from answering."""
    for pick in dict.fromkeys(picks):
        try:
            yield speaker.picked(store, pick)
        except SeedbedError:
            continue
