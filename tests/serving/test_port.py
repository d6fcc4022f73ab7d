"""The port of a server."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.runs.store import Store
from studio.serving import port


def test_a_taken_port_is_told_with_its_owner() -> None:
    with socket.socket() as owner:
        owner.bind((port.HOST, 0))
        owner.listen()
        taken = owner.getsockname()[1]
        with pytest.raises(ServingError, match=rf"Port {taken} is taken by .*, process {os.getpid()}: choose another"):
            port.claim(taken)


def test_a_free_port_is_free() -> None:
    found = port.claim(None)
    assert port.claim(found) == found


def test_a_port_that_an_earlier_server_is_about_to_have(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = sorted((store.create(ServeConfig(port=8080)) for _ in range(2)), key=lambda run: run.id)
    port.check(8080, first)
    with pytest.raises(ServingError, match=f"is that of the server {first.id}"):
        port.check(8080, second)
    port.check(8081, second)
    port.check(None, second)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may have any port")
def test_a_port_that_needs_root() -> None:
    with pytest.raises(ServingError, match="above 1023"):
        port.claim(1)
