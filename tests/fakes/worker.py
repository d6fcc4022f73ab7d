"""A small real program in a worker's place. It does the steps in its run directory's fake.json, one by one.

python -m tests.fakes.worker RUN_DIR

A step is [verb, argument...]; the verbs are the functions below. When the steps are done it exits with code 0.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUN = Path(sys.argv[1])


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def leave(code: int) -> None:
    os._exit(code)


def crash(number: int) -> None:
    os.kill(os.getpid(), number)


def deaf() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def note_signals() -> None:
    """Write down SIGINT and SIGTERM instead of obeying."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: append("signals.txt", signal.Signals(number).name))


def heed() -> None:
    """Train until asked to stop, the way a good worker does."""
    while not (RUN / "STOP").exists():
        time.sleep(0.02)
    os._exit(10)


def await_file(name: str) -> None:
    while not (RUN / name).exists():
        time.sleep(0.02)


def swell(group: str, megabytes: int) -> None:
    """Take memory as a member of a control group."""
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
    b"x" * (megabytes << 20)


def touch(name: str) -> None:
    (RUN / name).touch()


def append(name: str, text: str) -> None:
    with open(RUN / name, "a", encoding="utf-8") as file:
        file.write(text + "\n")


def write(name: str, value: Any) -> None:
    temporary = RUN / f".{name}.fake"
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.rename(RUN / name)


def write_text(name: str, text: str) -> None:
    (RUN / name).write_text(text, encoding="utf-8")


def stamp(name: str) -> None:
    """Append this run's id and the time to a file beside the run directories."""
    append(f"../{name}", f"{RUN.name} {time.time()}")


def shout(megabytes: float) -> None:
    line = "x" * 1023
    for _ in range(int(megabytes * 1024)):
        print(line)


def say(text: str) -> None:
    print(text, flush=True)
    print(f"{text}!", file=sys.stderr, flush=True)


def describe() -> None:
    """What the worker was born with."""
    write(
        "born.json",
        {
            "run": os.environ.get("SEEDBED_RUN"),
            "session": os.getsid(0) == os.getpid(),
            "stdin": os.readlink("/proc/self/fd/0"),
            "interruptible": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            "hangs_up": signal.getsignal(signal.SIGHUP) is signal.SIG_DFL,
        },
    )


def spawn(environment: dict[str, str] | None = None) -> None:
    """A child in a session of its own, as vLLM's engine is."""
    child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env=environment)
    append("spawned.txt", str(child.pid))


def spawn_orphan() -> None:
    """A grandchild whose parent is gone, in its own session, deaf, and without a trace in its environment."""
    script = "trap '' TERM INT; setsid sleep 600 >/dev/null 2>&1 & echo $!"
    shell = subprocess.run(["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, check=True)
    append("spawned.txt", shell.stdout.decode().strip())


def launch(run: str) -> None:
    """Start another run, with a fake worker too."""
    from studio.runs import launchers
    from studio.runs.run import Run

    launchers.WORKERS["train"] = "tests.fakes.worker"
    launchers.start(Run(Path(run)))


def fill_disk() -> None:
    """Until nothing fits any more, not even a byte."""
    with open(RUN / "ballast", "ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


DO = {
    function.__name__: function
    for function in (
        sleep, leave, crash, deaf, note_signals, heed, await_file, touch, append, write, write_text, stamp, shout,
        say, describe, spawn, spawn_orphan, launch, fill_disk, swell,
    )
}  # fmt: skip

for verb, *arguments in json.loads((RUN / "fake.json").read_text(encoding="utf-8")):
    DO[verb](*arguments)
