"""The worker of a run of kind "serve": starts vLLM or its stand-in, watches it, loads adapters, takes it down.

    python -m studio.serving.sidecar RUN_DIR

Writes serve.yaml, status.json, server.json (0600, only while it answers), startup.json (seconds by phase, for the
next start's ETA), metrics.jsonl (its load), result.json (of a stop) and error.json. Reads STOP, STOP_NOW and
requests/*.json. Imports neither torch nor vLLM.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from studio import models
from studio.config.load import load_run_config
from studio.config.serve import ServeConfig
from studio.errors import SeedbedError, ServingError, SidecarNotReady
from studio.files import read_record, write_json, write_text
from studio.runs import process
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.runs.waiting import is_asked_to_stop
from studio.serving import backend, command, diagnosis, installed, memory, port, refusals, release
from studio.serving.adapters import Adapters
from studio.serving.child import Child
from studio.serving.client import Client, Server
from studio.serving.metrics import Meter
from studio.serving.progress import ADAPTERS, PHASES, READY, STAND_IN_PHASES, Progress
from studio.serving.sleeping import Sleeper

FAILED, STOPPED = 1, 10
POLL_S = 0.2
LAST_WORDS_S = 1.5
OTHERS_GONE_S = 10.0
BEAT_S = {"ready": 4.0}  # while starting, the ETA counts down every second


class ServerDied(ServingError):
    """The server ended by itself. `hint` says what to change, where that is known."""

    def __init__(self, cause: str, hint: str) -> None:
        self.hint = hint
        end = "" if cause.endswith((".", "…")) else "."
        super().__init__(f"The model server ended: {cause}{end}")


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
    await _others_gone(folder)
    port.check(config.port, Run(folder))
    sidecar = Sidecar(folder, memory.settled(config))
    try:
        code = await sidecar.run()
    finally:
        await sidecar.take_down()
    await sidecar.conclude()
    return code


async def _others_gone(folder: Path) -> None:
    """Servers that are stopping hold their memory, and a port that was given, for another moment."""
    deadline = time.monotonic() + OTHERS_GONE_S
    while time.monotonic() < deadline and not is_asked_to_stop(folder):
        if not any(run.state is State.STOPPING for run in Store(folder.parent).list("serve") if run.path != folder):
            return
        await asyncio.sleep(POLL_S)


class Sidecar:
    """One model server and what is known of it."""

    def __init__(self, folder: Path, config: ServeConfig) -> None:
        self.folder = folder
        self.config = config
        self.backend = backend.choose(config)
        self.port = port.claim(config.port)
        self.server = Server(f"http://{command.HOST}:{self.port}", secrets.token_urlsafe(32))
        self.client = Client(self.server)
        phases = PHASES if self.backend.name == "vllm" else STAND_IN_PHASES
        self.progress = Progress(_earlier_seconds(folder, config, self.backend.name), phases)
        self.adapters = Adapters(self.client, config, folder / "requests", self.backend.name)
        self.sleeper = Sleeper(self.client, folder / "requests", config.enable_sleep_mode)
        self.watch = release.Watch(config)
        self.child: Child | None = None
        self.kills = process.kernel_kills()
        self.answers = self.published = False
        self.last_words = "stopped"

    async def run(self) -> int:
        """Until asked to stop, or long idle; raises whatever else ends it."""
        if is_asked_to_stop(self.folder):  # nothing is to be started beside one that still ends
            return STOPPED
        stop, heart = asyncio.create_task(self._stop_asked()), asyncio.create_task(self._beat())
        work = asyncio.create_task(self._work())
        done, _ = await asyncio.wait((stop, heart, work), return_when=asyncio.FIRST_COMPLETED)
        for task in (stop, heart, work):
            task.cancel()
        return stop.result() if stop in done else done.pop().result()

    async def take_down(self) -> None:
        """End the server and everything it started, within two seconds."""
        (self.folder / "server.json").unlink(missing_ok=True)
        await self.client.close()
        if self.child:
            # while starting, vLLM answers SIGTERM by hanging for ten minutes
            await self.child.end(politely=self.answers)

    async def conclude(self) -> None:
        """Write down a stop that was asked for: why, and whether the GPU's memory is free again."""
        freed = await self.watch.release() if self.child else None
        words = ", ".join(str(part) for part in (self.last_words, freed) if part)
        self._write("status.json", {"phase": "stopped", "message": words, "at": time.time()})
        self._write("result.json", {"stopped": True, **(freed.to_json() if freed else {})})

    async def _work(self) -> int:
        parameters = self._check()
        self.child = await self._start(parameters)
        ended = asyncio.create_task(self.child.listen(self._on_line))
        serving = asyncio.create_task(self._serve(self.child))
        try:
            await asyncio.wait((ended, serving), return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not isinstance(serving.exception(), SidecarNotReady):
                return serving.result()
            await asyncio.wait((ended,), timeout=LAST_WORDS_S)
            raise self._death(self.child)
        finally:
            ended.cancel()
            serving.cancel()

    def _check(self) -> int | None:
        """Look at options, model, adapters and memory before the server does. The model's parameters; None for one of
        the hub."""
        refusals.check(self.config)
        name = models.resolve(self.config.model_name_or_path)
        found = models.check(Path(name)) if models.is_local(name) else None
        for adapter in self.config.adapters:
            self.adapters.check(adapter.name, models.resolve(adapter.path))
        memory.check(self.config, Run(self.folder))
        return found.parameters if found else None

    async def _start(self, parameters: int | None) -> Child:
        path = self.folder / "serve.yaml"
        call = command.call(self.config, self.backend.name, self.port, self.server.api_key, parameters)
        write_text(path, call.to_yaml())
        return await Child.start((*call.words, str(path)), call.environment, self.folder)

    def _on_line(self, line: str) -> None:
        _say(line)
        self.progress.read(line)

    async def _serve(self, child: Child) -> int:
        """From the first answer on, until nobody has asked anything for as long as the options say."""
        while not await self.client.health():
            await asyncio.sleep(POLL_S)
        self.answers = True
        child.meet_family()
        self.progress.enter(ADAPTERS)
        await self.adapters.begin()
        self.progress.enter(READY)
        self._publish(child)
        self._write("startup.json", _startup(self.config, self.backend.name, self.progress))
        meter = Meter(self.client, self.folder)
        following = asyncio.create_task(meter.follow())
        try:
            return await self._answer_requests(child, meter)
        finally:
            following.cancel()

    async def _answer_requests(self, child: Child, meter: Meter) -> int:
        while child.is_whole():
            await self.sleeper.answer_requests(lambda: self._publish(child))
            if not self.sleeper.asleep and await self.adapters.answer_requests(lambda: self._publish(child)):
                child.lines.clear()  # a refused adapter's errors would pass for the cause of a later end
            if not self.published:
                self._publish(child)
            if self._is_forgotten(meter.idle_s):
                self.last_words = f"stopped after {self.config.idle_stop_minutes:g} idle minutes"
                return STOPPED
            await asyncio.sleep(POLL_S)
        raise SidecarNotReady("one of the server's processes is gone")

    def _is_forgotten(self, idle_s: float) -> bool:
        minutes = self.config.idle_stop_minutes
        return minutes is not None and idle_s > 60 * minutes

    def _publish(self, child: Child) -> None:
        """server.json says that the server answers, as which models, and with which key."""
        value = {
            "host": command.HOST,
            "port": self.port,
            "api_key": self.server.api_key,
            "pid": child.pid,
            "backend": self.backend.name,
            "why": self.backend.why,
            "version": installed.version(self.backend.name),
            "asleep": self.sleeper.asleep,
            "models": self.adapters.models(),
            "checks": self.adapters.checks(),
        }
        self.published = self._write("server.json", value, mode=0o600)

    def _death(self, child: Child) -> ServerDied:
        """Any end that nobody asked for is a failure: vLLM's own code after a dead engine is 0."""
        if cause := diagnosis.root_cause(child.lines):
            return ServerDied(cause, diagnosis.hint(cause))
        if process.kernel_kills() > self.kills:
            return ServerDied(diagnosis.KERNEL_KILL, diagnosis.hint(diagnosis.KERNEL_KILL))
        if child.code is not None and child.code < 0:
            name = signal.Signals(-child.code).name
            return ServerDied(f"its process was killed by {name}", diagnosis.hint(name))
        what = "one of its processes was killed" if self.answers else f"exit code {child.code}, no reason given"
        return ServerDied(what, "The end of the log may say more.")

    async def _stop_asked(self) -> int:
        """Returns when the run is to end: by file or signal. Raises when its nanny is gone."""
        signalled = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signalled.set)
        nanny = os.getppid()
        while not (signalled.is_set() or is_asked_to_stop(self.folder)):
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
                self._write("status.json", self.progress.to_json())
            await asyncio.sleep(POLL_S)

    def _write(self, name: str, value: Any, mode: int = 0o644) -> bool:
        """Whether a file of the run could be written: a full disk must not take down a server that answers."""
        try:
            write_json(self.folder / name, value, mode)
        except OSError as error:
            _say(f"{name}: {error}")
            return False
        return True


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:  # the log is on the full disk too
        return


def _startup(config: ServeConfig, name: backend.Name, progress: Progress) -> dict[str, Any]:
    model = models.resolve(config.model_name_or_path)
    return {"model": model, "backend": name, "seconds": progress.seconds}


def _earlier_seconds(folder: Path, config: ServeConfig, name: backend.Name) -> dict[str, float]:
    """How long each phase of the last start of the same model took; empty where there was none."""
    model = models.resolve(config.model_name_or_path)
    for path in sorted(folder.parent.glob("*/startup.json"), reverse=True):
        startup = read_record(path)
        if startup.get("model") == model and startup.get("backend") == name:
            return dict(startup["seconds"])
    return {}


def _write_error(folder: Path, error: Exception) -> None:
    kind, hint = type(error).__name__, getattr(error, "hint", "")
    _say(f"{kind}: {error} {hint}")
    write_json(folder / "error.json", {"kind": kind, "message": str(error), "hint": hint, "at": time.time()})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
