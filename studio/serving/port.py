"""The port that a server listens on."""

from __future__ import annotations

import errno
import socket

import psutil

from studio.errors import ServingError
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving.command import HOST


def check(wanted: int | None, run: Run) -> None:
    """Look whether another server of the studio is to have that port: while it starts nobody listens there, and vLLM
    binds in a way that lets two share it.

    Raises:
        ServingError: one that was created before this run has it.
    """
    others = Store(run.path.parent).list("serve") if wanted else []
    for other in others:
        if other.id < run.id and other.is_active and getattr(other.config, "port", None) == wanted:
            raise ServingError(f"Port {wanted} is that of the server {other.id}: choose another, or stop that one")


def claim(wanted: int | None) -> int:
    """The wanted port where nobody has it, or a free one.

    Raises:
        ServingError: somebody has it, or one may not have it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: one that just ended is no bar
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise ServingError(_taken(wanted or 0, error)) from error
        return int(probe.getsockname()[1])


def _taken(port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"Port {port} cannot be had ({error.strerror}): choose one above 1023, or leave port empty"
    return f"Port {port} is taken{_by(port)}: choose another, or leave port empty to get a free one"


def _by(port: int) -> str:
    try:
        owners = {found.pid for found in psutil.net_connections("tcp") if found.laddr and found.laddr.port == port}
        names = [f"{psutil.Process(pid).name()}, process {pid}" for pid in owners if pid]
    except psutil.Error:
        return ""
    return f" by {names[0]}" if names else ""
