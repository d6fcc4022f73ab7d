"""The worker of a run of kind "serve": starts vLLM, watches it, loads adapters, takes it down.

    python -m studio.serving.sidecar RUN_DIR

Writes serve.yaml, status.json, server.json (0600, only while it answers), startup.json (seconds by phase, for the
next start's ETA) and error.json. Reads STOP, STOP_NOW and requests/*.json. Imports neither torch nor vLLM.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from studio import models
from studio.config.load import load_run_config
from studio.config.serve import ServeConfig
from studio.errors import SeedbedError, ServingError, SidecarNotReady
from studio.files import read_json, write_json, write_text
from studio.serving import command, diagnosis, installed
from studio.serving.adapters import Adapters
from studio.serving.child import Child
from studio.serving.client import Client, Server
from studio.serving.progress import Progress

FAILED, STOPPED = 1, 10
POLL_S = 0.2
LAST_WORDS_S = 1.5
BEAT_S = {"ready": 4.0}  # while starting, the ETA counts down every second


class ServerDied(ServingError):
    """vLLM ended by itself. `hint` says what to change, where that is known."""

    def __init__(self, cause: str, hint: str) -> None:
        self.hint = hint
        super().__init__(f"The model server ended: {cause}")


def main(folder: Path) -> int:
    """Serve until asked to stop (10) or until something fails (1, with error.json)."""
    try:
        return asyncio.run(_serve(folder))
    except (SeedbedError, OSError) as error:
        _write_error(folder, error)
        return FAILED


async def _serve(folder: Path) -> int:
    config = load_run_config(folder / "config.yaml")
    if not isinstance(config, ServeConfig):
        raise ServingError(f"{folder} is a run of kind {config.kind}, not serve")
    sidecar = Sidecar(folder, config)
    try:
        return await sidecar.run()
    finally:
        await sidecar.take_down()


class Sidecar:
    """One vLLM server and what is known of it."""

    def __init__(self, folder: Path, config: ServeConfig) -> None:
        self.folder = folder
        self.config = config
        self.platform, self.version = installed.platform()
        self.port = _free_port()
        self.server = Server(f"http://{command.HOST}:{self.port}", secrets.token_urlsafe(32))
        self.client = Client(self.server)
        self.progress = Progress(_earlier_seconds(folder, config))
        self.adapters = Adapters(self.client, config, folder / "requests")
        self.child: Child | None = None
        self.answers = False

    async def run(self) -> int:
        """Until asked to stop; raises whatever else ends it."""
        stop, heart = asyncio.create_task(self._stop_asked()), asyncio.create_task(self._beat())
        work = asyncio.create_task(self._work())
        done, _ = await asyncio.wait((stop, heart, work), return_when=asyncio.FIRST_COMPLETED)
        for task in (stop, heart, work):
            task.cancel()
        return stop.result() if stop in done else done.pop().result()

    async def take_down(self) -> None:
        """End vLLM and everything it started, within two seconds."""
        (self.folder / "server.json").unlink(missing_ok=True)
        await self.client.close()
        if self.child:
            # while starting, vLLM answers SIGTERM by hanging for ten minutes
            await self.child.end(politely=self.answers)

    async def _work(self) -> NoReturn:
        self.child = await self._start(self._check_folders())
        ended = asyncio.create_task(self.child.listen(self._on_line))
        serving = asyncio.create_task(self._answer(self.child))
        try:
            await asyncio.wait((ended, serving), return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not isinstance(serving.exception(), SidecarNotReady):
                serving.result()
            await asyncio.wait((ended,), timeout=LAST_WORDS_S)
            raise self._death(self.child)
        finally:
            ended.cancel()
            serving.cancel()

    def _check_folders(self) -> int | None:
        """Look at model and adapters before vLLM does. The model's parameters; None for one of the hub."""
        for adapter in self.config.adapters:
            self.adapters.check(adapter.name, models.resolve(adapter.path))
        name = models.resolve(self.config.model_name_or_path)
        return models.check(Path(name)).parameters if models.is_local(name) else None

    async def _start(self, parameters: int | None) -> Child:
        path = self.folder / "serve.yaml"
        write_text(path, command.to_yaml(command.options(self.config, self.port, self.platform)))
        threads = command.threads(self.config, parameters)
        environment = command.environment(self.config, self.server.api_key, self.platform, threads)
        return await Child.start((*command.COMMAND, str(path)), environment, self.folder)

    def _on_line(self, line: str) -> None:
        _say(line)
        self.progress.read(line)

    async def _answer(self, child: Child) -> NoReturn:
        while not await self.client.health():
            await asyncio.sleep(POLL_S)
        self.answers = True
        child.meet_family()
        self.progress.enter("checking")
        await self.adapters.begin()
        self.progress.enter("ready")
        self._publish(child)
        write_json(self.folder / "startup.json", _startup(self.config, self.progress))
        while child.is_whole():
            if await self.adapters.answer_requests(lambda: self._publish(child)):
                child.lines.clear()  # a refused adapter's errors would pass for the cause of a later end
            await asyncio.sleep(POLL_S)
        raise SidecarNotReady("one of the server's processes is gone")

    def _publish(self, child: Child) -> None:
        """server.json says that the server answers, as which models, and with which key."""
        value = {
            "host": command.HOST,
            "port": self.port,
            "api_key": self.server.api_key,
            "pid": child.pid,
            "version": self.version,
            "models": self.adapters.models(),
            "checks": self.adapters.checks(),
        }
        write_json(self.folder / "server.json", value, mode=0o600)

    def _death(self, child: Child) -> ServerDied:
        """Any end that nobody asked for is a failure: vLLM's own code after a dead engine is 0."""
        if cause := diagnosis.root_cause(child.lines):
            return ServerDied(cause, diagnosis.hint(cause))
        if child.code is not None and child.code < 0:
            name = signal.Signals(-child.code).name
            return ServerDied(f"its process was killed by {name}", diagnosis.hint(name))
        what = "one of its processes vanished" if self.answers else f"exit code {child.code}, no reason given"
        return ServerDied(what, "The end of the log may say more.")

    async def _stop_asked(self) -> int:
        """Returns when the run is to end: by file or signal. Raises when its nanny is gone."""
        signalled = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signalled.set)
        nanny = os.getppid()
        while not (signalled.is_set() or any((self.folder / name).exists() for name in ("STOP", "STOP_NOW"))):
            if os.getppid() != nanny:
                raise ServingError("The process that watches this server was killed, so it shut down. Start it again")
            await asyncio.sleep(POLL_S)
        return STOPPED

    async def _beat(self) -> NoReturn:
        """Keep status.json fresh: at once when something changes, else every few seconds."""
        shown, at = "", 0.0
        while True:
            name, message = self.progress.phase.name, self.progress.message
            if message != shown or time.monotonic() - at > BEAT_S.get(name, 1.0):
                shown, at = message, time.monotonic()
                self._write_status()
            await asyncio.sleep(POLL_S)

    def _write_status(self) -> None:
        try:
            write_json(self.folder / "status.json", self.progress.to_json())
        except OSError as error:  # a full disk must not take down a server that answers
            _say(f"status.json: {error}")


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:  # the log is on the full disk too
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((command.HOST, 0))
        return int(probe.getsockname()[1])


def _startup(config: ServeConfig, progress: Progress) -> dict[str, Any]:
    return {"model": models.resolve(config.model_name_or_path), "seconds": progress.seconds}


def _earlier_seconds(folder: Path, config: ServeConfig) -> dict[str, float]:
    """How long each phase of the last start of the same model took; empty where there was none."""
    name = models.resolve(config.model_name_or_path)
    for path in sorted(folder.parent.glob("*/startup.json"), reverse=True):
        startup = read_json(path)
        if startup and startup["model"] == name:
            return dict(startup["seconds"])
    return {}


def _write_error(folder: Path, error: Exception) -> None:
    kind, hint = type(error).__name__, getattr(error, "hint", "")
    _say(f"{kind}: {error} {hint}")
    write_json(folder / "error.json", {"kind": kind, "message": str(error), "hint": hint, "at": time.time()})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
