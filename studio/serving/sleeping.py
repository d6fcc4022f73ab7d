"""A server that gives its GPU's memory to others for a while. vLLM sleeps on GPUs only; its weights go to the RAM.

Level 1 of its sleep: level 2 loses weights that an adapter has wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studio.errors import RequestFailed, SeedbedError
from studio.runs.run import Run
from studio.serving import mailbox
from studio.serving.client import Client

TIMEOUT_S = 120.0


async def sleep(run: Run) -> None:
    """Have a server free its GPU's memory. Whoever asks it something meanwhile waits until it is woken.

    Raises:
        RequestFailed: it was not started with enable_sleep_mode, or vLLM refuses.
        SidecarNotReady: the server has ended.
    """
    await _ask(run, "sleep")


async def wake(run: Run) -> None:
    """Have a server that sleeps take its memory back; at once where it does not sleep.

    Raises:
        RequestFailed: the memory is taken by others.
        SidecarNotReady: the server has ended.
    """
    if is_asleep(run):
        await _ask(run, "wake")


def is_asleep(run: Run) -> bool:
    """Whether the server sleeps."""
    return bool(run.server.get("asleep"))


def can_sleep(run: Run) -> bool:
    """Whether the server was started so that it can."""
    return bool(run.server) and bool(getattr(run.config, "enable_sleep_mode", False))


class Sleeper:
    """The server's side: does what the files in its requests folder ask."""

    def __init__(self, client: Client, requests: Path, is_able: bool) -> None:
        self._client = client
        self._requests = requests
        self._is_able = is_able
        self.asleep = False

    async def answer_requests(self, publish: Callable[[], None]) -> None:
        """Sleep or wake, and `publish` it before it is called done."""
        for path in mailbox.pending(self._requests, "sleep", "wake"):
            verb = path.name.partition("-")[0]
            try:
                await self._turn(verb == "sleep")
            except SeedbedError as error:
                mailbox.answer(path, {"ok": False, "message": str(error)})
                continue
            publish()
            mailbox.answer(path, {"ok": True, "message": "asleep" if self.asleep else "awake"})
        if self.asleep:  # nothing can be loaded, and vLLM would not answer until it is woken
            for path in mailbox.pending(self._requests, "load", "unload"):
                mailbox.answer(path, {"ok": False, "message": "The server sleeps: wake it first"})

    async def _turn(self, asleep: bool) -> None:
        if asleep and not self._is_able:
            raise RequestFailed("This server cannot sleep: start it with enable_sleep_mode=true, or stop it")
        if asleep != self.asleep:
            await self._client.post("/sleep?level=1" if asleep else "/wake_up", {})
            self.asleep = asleep


async def _ask(run: Run, verb: str) -> None:
    told = await mailbox.ask(run, verb, {}, TIMEOUT_S)
    if not told["ok"]:
        raise RequestFailed(told["message"])
