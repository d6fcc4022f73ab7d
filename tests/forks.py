"""Programs of the studio as processes forked from one that has imported what they need: real, without the imports.

All that a fork saves is the seconds of the imports. What it runs is what `python -m` runs, in a process with a parent,
a session, an environment and files of its own; and what such a process starts itself through subprocess, a nanny its
worker, a launcher its ranks, is forked in the same way where its imports are those that are there already.

As a program this is the process that forks: it listens on a socket for a program and its files, answers with the
process id and, in time, with the exit code.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from studio import openmp
from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.runs.process import die_with_parent
from studio.settings import ROOT
from studio.worker import imports, train

TRAINING = ("studio.worker.train", "studio.worker.launch")
ROOM_BYTES = 32_000  # for the environment of a process that is forked
FILES = 3
# numpy and Arrow would start threads as they are imported, and forks have only the one that forked
LONE = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


def needed(run_dir: Path) -> set[str]:
    """The packages that the training of `run_dir` does not hide from its libraries as most others do."""
    config = load_run_config(run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    return train._needed(config).intersection(imports.UNUSED)


class Forked:
    """A process that was forked for us, as a subprocess.Popen that is nobody's child."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._answers = channel.makefile()
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, -N for signal N; None while it lives."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended; until then its id is not given to another."""
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._channel.close()
        return self.returncode


class Forks:
    """A process that has imported `modules` and forks.

    Args:
        modules: what it imports.
        needed: with the libraries of a training: those packages that few trainings use.
    """

    def __init__(self, modules: Sequence[str], needed: Sequence[str] | None = None) -> None:
        self.address = f"\0seedbed-test-{os.getpid()}-{id(self)}"
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(self.address)
            door.listen()
            words = json.dumps({"modules": list(modules), "needed": needed, "door": door.fileno()})
            given = {**os.environ, **openmp.environment(os.environ), **LONE}  # as a nanny gives it
            environment = {**given, "OMP_NUM_THREADS": "2", "ROOM": "." * ROOM_BYTES}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", words],
                cwd=ROOT, env=environment, pass_fds=[door.fileno()], preexec_fn=die_with_parent,
            )  # fmt: skip

    def start(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], files: Sequence[IO[Any]], session: bool = False
    ) -> Forked:
        """`python -m WORDS`, with its three standard files; in a session of its own where asked."""
        request = {"words": list(words), "cwd": str(cwd), "env": dict(env), "session": session}
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(self.address)
        text = json.dumps(request).encode()
        socket.send_fds(channel, [len(text).to_bytes(4, "big")], [file.fileno() for file in files])
        channel.sendall(text)
        return Forked(channel)

    def run(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`python -m WORDS` to its end, as subprocess.run() would."""
        with (
            tempfile.TemporaryFile("w+") as given,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(text)
            given.seek(0)
            code = self.start(words, cwd, env, (given, out, err)).wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, code, out.read(), err.read().decode())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Program(subprocess.Popen[bytes]):
    """A child process that is forked where `python -m` would have it import what is here already."""

    modules: tuple[str, ...] = ()
    needed: frozenset[str] | None = None

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *others: Any) -> None:
        words = [os.fsdecode(word) for word in args] if isinstance(args, (list, tuple)) else []
        if words[:2] != [sys.executable, "-m"] or not _is_ready(words[2:]):
            super()._execute_child(args, executable, preexec_fn, *others)  # type: ignore[misc]
            return
        _, kept, cwd, env, _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *rest = others
        self._child_created = True
        self.pid = os.fork()
        if self.pid == 0:
            if rest[-2]:
                os.setsid()
            files = [number if file == -1 else file for number, file in enumerate((p2cread, c2pwrite, errwrite))]
            become(words[2:], cwd, os.environ if env is None else env, files, kept, preexec_fn)
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def _is_ready(words: list[str]) -> bool:
    """Whether this process has imported, and hidden, what that program would."""
    if words[0] in TRAINING:
        return Program.needed is not None and needed(Path(words[1])) == Program.needed
    return words[0] in Program.modules


def become(
    words: list[str], cwd: Any, env: Mapping[str, str], files: Sequence[int], kept: Sequence[int], before: Any
) -> None:
    """What `python -m WORDS` is. Never returns."""
    code = 1
    try:
        _take(files, kept)
        _forget()
        if before:
            before()
        _settle(words, cwd, dict(env))
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = _code_of(end)
    except BaseException:  # noqa: BLE001  # the last of all
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
        os._exit(code)


def _code_of(end: SystemExit) -> int:
    if isinstance(end.code, str):
        print(end.code, file=sys.stderr)
    return end.code if isinstance(end.code, int) else int(end.code is not None)


def _take(files: Sequence[int], kept: Sequence[int]) -> None:
    """The standard files; all others but `kept` are closed."""
    high = [os.dup(file) for file in files]
    for number, file in enumerate(high):
        os.dup2(file, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))


def _forget() -> None:
    """What a process that was started has not: the handlers of the one that it was forked from."""
    atexit._clear()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _settle(words: list[str], cwd: Any, env: dict[str, str]) -> None:
    if cwd is not None:
        os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    _show(env)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if number else "r"
        setattr(sys, name, open(number, mode, buffering=1, closefd=False))  # noqa: SIM115
    sys.argv = list(words)
    sys.path[0] = os.getcwd()
    if not hasattr(sys.modules.get(words[0]), "__path__"):
        sys.modules.pop(words[0], None)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(env.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def _show(env: Mapping[str, str]) -> None:
    """To those who read /proc/PID/environ, which is the memory that the first process found it in."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    text = "".join(f"{name}={value}\0" for name, value in env.items()).encode()
    assert len(text) < end - start, "ROOM_BYTES is too little"
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


def main(modules: Sequence[str], needed: Sequence[str] | None, door: int) -> None:
    """Fork for each request."""
    if needed is not None:
        imports.trim(needed)
    for module in (*modules, *(needed or ())):
        import_module(module)
    if needed is not None:
        imports.settle()
        Program.needed = frozenset(needed)
    Program.modules = ("studio", "studio.runs.nanny")
    subprocess.Popen = Program  # type: ignore[misc]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not fork"
    with socket.socket(fileno=door) as listening:
        while True:
            channel, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _keep(channel)
            channel.close()


def _keep(channel: socket.socket) -> None:
    """Be the parent of one program, as a test would be. Never returns."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(channel, 4, FILES)
    request = json.loads(channel.makefile("rb").read(int.from_bytes(size, "big")))
    process = subprocess.Popen(
        [sys.executable, "-m", *request["words"]], cwd=request["cwd"], env=request["env"],
        stdin=files[0], stdout=files[1], stderr=files[2], start_new_session=request["session"],
    )  # fmt: skip
    for file in files:
        os.close(file)
    channel.sendall(f"{process.pid}\n".encode())
    end = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with suppress(OSError):
        channel.sendall(f"{end.si_status if end.si_code == os.CLD_EXITED else -end.si_status}\n".encode())
        channel.recv(1)  # until it is read the process stays what a child is that nobody has waited for
    os._exit(0)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
