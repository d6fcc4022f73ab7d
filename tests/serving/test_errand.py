"""Work in a process of its own: its last word where it fails, and nothing left of it where nobody waits any more."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from studio.serving import errand


def test_a_failure_is_the_last_thing_that_was_said(tmp_path: Path) -> None:
    with pytest.raises(errand.ErrandFailed, match=r"No module named studio\.nowhere"):
        asyncio.run(errand.run("studio.nowhere", str(tmp_path)))


def test_work_that_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(errand.run("http.server", "0", "--bind", "127.0.0.1", timeout_s=0.5))
    assert not _at_work()


def test_what_was_given_is_read(tmp_path: Path) -> None:
    asyncio.run(errand.run("json.tool", "-", str(tmp_path / "out.json"), given='{"a":1}'))
    assert (tmp_path / "out.json").read_text() == '{\n    "a": 1\n}\n'


def _at_work() -> bool:
    """Whether a server that was to be ended lives on; a killed process takes a moment to be gone."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any("http.server" in " ".join(_command(child)) for child in psutil.Process().children()):
            return False
        time.sleep(0.05)
    return True


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
