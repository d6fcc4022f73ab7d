"""The way to get somebody to answer: a server that is up and awake, the adapter loaded and proved, the words to ask in.

What a pick needs for that can be looked at before anything is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from studio import models
from studio.errors import SeedbedError
from studio.runs.store import Store
from studio.serving import servers, speaker
from studio.serving.client import Server
from studio.serving.speaker import Speaker
from studio.serving.wording import SERVERS_OWN, Wording, wording

Tell = Callable[[dict[str, Any]], None]


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
    who = speaker.picked(store, pick)
    if who.remote:
        return Voice(who.remote.server(), who.remote.model, SERVERS_OWN)
    others = list(_found(store, together))
    await asyncio.to_thread(speaker.start, store, who.base, [who, *others])
    server, model = await servers.open_model(store, models.display_name(who.base), who.adapter, tell)
    return Voice(server, model, wording(who, others))


def needs(store: Store, picks: Sequence[str]) -> list[Need]:
    """What must be done before all of them can answer, in the order in which it is done.

    Picks that nobody can answer to are passed over: `open_voice` says what is wrong with them.
    """
    missing = {who.base: who for who in _found(store, picks) if not who.remote and not servers.find(store, who.base)}
    return [_server_needed(base) for base in missing]


def _server_needed(base: str) -> Need:
    name, memory_gb = models.display_name(base), speaker.memory_gb(base)
    takes = f", which takes about {memory_gb:.1f} GB" if memory_gb else ""
    return Need("server", name, f"A server of {name} is started{takes}", base, memory_gb)


def _found(store: Store, picks: Sequence[str]) -> Iterator[Speaker]:
    """A pick that is damaged must not keep the others from answering."""
    for pick in dict.fromkeys(picks):
        try:
            yield speaker.picked(store, pick)
        except SeedbedError:
            continue
