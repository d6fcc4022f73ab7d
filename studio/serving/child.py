"""vLLM as a child process: started, listened to, ended with everything that it started itself."""

from __future__ import annotations

import asyncio
import ctypes
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from studio.runs.process import die_with_parent

GRACE_S = 0.7  # a server that is up needs 0.3 s to end its streams cleanly; a stop takes two seconds at most
GONE_S = 2.0
LINE_MAX_BYTES = 1 << 20
KEPT_LINES = 3000
PR_SET_CHILD_SUBREAPER = 36


class Child:
    """One server process, its last lines of output, and its descendants."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._family: list[psutil.Process] = []
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Child:
        """Start `command` in this process's own group, to die when this process dies."""
        adopt_orphans()
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=dict(environment), preexec_fn=die_with_parent, limit=LINE_MAX_BYTES,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, -N for signal N; None while it lives."""
        return self._process.returncode

    async def listen(self, on_line: Callable[[str], None]) -> None:
        """Hand on every line of output until the process has ended."""
        assert self._process.stdout
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            on_line(line)
        await self._process.wait()

    def meet_family(self) -> None:
        """Remember the processes that belong to a server that is up."""
        self._family = psutil.Process().children(recursive=True)

    def is_whole(self) -> bool:
        """Whether every process of the family still lives."""
        return all(_lives(process) for process in self._family)

    async def end(self, politely: bool) -> None:
        """End the process and everything it started. `politely` lets it close its streams first."""
        if politely and self.code is None:
            self._process.terminate()
            await self._wait(GRACE_S)
        if self.code is None:
            self._process.kill()
            await self._wait(GRACE_S)
        await _kill_descendants()

    async def _wait(self, seconds: float) -> None:
        await asyncio.wait([asyncio.ensure_future(self._process.wait())], timeout=seconds)


def adopt_orphans() -> None:
    """Make orphaned descendants our children: vLLM's engine outlives its server, and must still be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def _kill_descendants() -> None:
    """Kill until none is left; killing one may orphan another to us."""
    deadline = asyncio.get_running_loop().time() + GONE_S
    while left := psutil.Process().children(recursive=True):
        for process in left:
            _kill(process)
        psutil.wait_procs(left, timeout=0.05)
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(0)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
