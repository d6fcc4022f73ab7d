"""Programs of the studio as processes forked from one that has imported what they need: real, without the imports.

As a program it is that process: it reads requests from its standard input, a JSON object in each line, forks for each
and answers with the exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from studio.settings import ROOT


class Forks:
    """A process that has imported `modules` and forks."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", *modules],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip

    def run(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`python -m WORDS` to its end, as subprocess.run() would."""
        assert self._process.stdin
        assert self._process.stdout
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("in", "out", "err")]
            files[0].write_text(text)
            request = {"words": list(words), "cwd": str(cwd), "env": dict(env), "files": [str(path) for path in files]}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(words, code, files[1].read_text(), files[2].read_text())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main(modules: Sequence[str]) -> None:
    """Fork for each request."""
    for module in modules:
        import_module(module)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            answers.close()
            become(**json.loads(line))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")


def become(words: list[str], cwd: str, env: dict[str, str], files: list[str]) -> None:
    """What `python -m WORDS` is."""
    for number, path in enumerate(files):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = os.fdopen(0, closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = words
    sys.path[0] = cwd
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1:])
