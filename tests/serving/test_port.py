"""The port of a server."""

from __future__ import annotations

import os
import socket

import pytest

from studio.errors import ServingError
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may have any port")
def test_a_port_that_needs_root() -> None:
    with pytest.raises(ServingError, match="above 1023"):
        port.claim(1)
