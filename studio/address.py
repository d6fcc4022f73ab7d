"""The address the studio listens on: free, or said to be taken, and by whom."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

import psutil

from studio.errors import ConfigError, Problem, SeedbedError
from studio.settings import Settings

TRIES = 20
PORT_MAX = 65535


def free(settings: Settings) -> Settings:
    """`settings` with a port that can be listened on: its own or, with next_port, the first free one after it.

    Raises:
        ConfigError: no such address on this machine, or a number that is no port.
        SeedbedError: the port is taken; the message names the process where the system tells.
    """
    if not 0 < settings.port <= PORT_MAX:
        raise ConfigError([Problem("port", f"{settings.port} is not a port: use a number from 1 to {PORT_MAX}")])
    last = min(PORT_MAX, settings.port + TRIES) if settings.next_port else settings.port
    for port in range(settings.port, last + 1):
        if _can_listen(settings.host, port):
            return replace(settings, port=port)
    if settings.next_port:
        raise SeedbedError(f"Ports {settings.port} to {last} are all taken: choose another with --port")
    raise SeedbedError(
        f"Port {settings.port} is taken by {holder(settings.port)}. End that, choose another with --port, "
        "or let --next-port find one"
    )


def holder(port: int) -> str:
    """Who listens on `port`, in words."""
    pids = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }
    names = [_name(pid) for pid in sorted(pid for pid in pids if pid)]
    return " and ".join(names) or "a process of another user"


def _name(pid: int) -> str:
    try:
        command = " ".join(psutil.Process(pid).cmdline())[:80]
    except psutil.Error:
        command = ""
    return f"process {pid} ({command})" if command else f"process {pid}"


def _can_listen(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigError([Problem("host", f"{host!r} is no address of this machine")]) from error
    with socket.socket(family, kind, protocol) as probe:
        # as the server does: connections that are still closing do not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            return _refuse(error, host, port)
    return True


def _refuse(error: OSError, host: str, port: int) -> bool:
    if isinstance(error, PermissionError):
        raise SeedbedError(f"Port {port} is reserved for the system: choose one above 1023 with --port") from error
    if error.errno != errno.EADDRINUSE:
        raise ConfigError([Problem("host", f"{host!r} is no address of this machine")]) from error
    return False
