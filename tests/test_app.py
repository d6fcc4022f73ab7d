"""app.py as a process: its address, and what it says when it cannot have it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from studio.settings import ROOT


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that this process listens on, with the next one free as a rule."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def app(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run app.py with flags that make it end by itself."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SEEDBED_")}
    command = [sys.executable, "app.py", *flags]
    return subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_taken_port_names_who_has_it_and_what_to_do() -> None:
    with taken_port() as port:
        done = app("--port", str(port))
    assert done.returncode == 2
    assert f"Port {port} is taken by process {os.getpid()} (" in done.stderr
    assert "--next-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_next_port_is_taken_if_asked_and_the_address_is_printed(tmp_path: Path) -> None:
    with taken_port() as port:
        flags = ["--port", str(port), "--next-port", "--saves-dir", str(tmp_path)]
        studio = subprocess.Popen([sys.executable, "app.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert studio.stdout
            address = studio.stdout.readline().split()[-1]
            assert int(address.rpartition(":")[2]) > port
            assert status(address) == 200
        finally:
            studio.terminate()
            studio.communicate(timeout=20)


def status(address: str) -> int:
    """The HTTP status of the page, once somebody listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return int(answer.status)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("flags", "environment", "told"),
    [
        (["--host", "0.0.0.0"], {}, "Set SEEDBED_AUTH=user:password"),
        (["--host", "0.0.0.0"], {"SEEDBED_AUTH": "nobody"}, "SEEDBED_AUTH: write it as user:password"),
        (["--port", "70000"], {}, "port: 70000 is not a port"),
        ([], {"SEEDBED_PORT": "http"}, "SEEDBED_PORT: 'http' is not a port"),
        (["--host", "192.0.2.1", "--share-without-login"], {}, "'192.0.2.1' is no address of this machine"),
        (["--host", "no such host", "--share-without-login"], {}, "'no such host' is no address of this machine"),
    ],
)
def test_a_wrong_address_is_one_line(flags: list[str], environment: dict[str, str], told: str) -> None:
    done = app(*flags, **environment)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_webui_is_the_same_door() -> None:
    words = [sys.executable, "-m", "studio", "webui", "--help"]
    by_command = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert by_command.stdout == app("--help").stdout


LOADED = """
import runpy, sys
sys.argv = ["app.py", "--port", "70000"]
try:
    runpy.run_path("app.py", run_name="__main__")
except SystemExit:
    print("gradio" in sys.modules)
"""


def test_a_wrong_flag_does_not_load_the_page_first() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
