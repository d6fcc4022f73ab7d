"""OpenAI-compatible servers that somebody else runs (vLLM, SGLang, LMDeploy, TGI, Ollama), kept by name.

A key is never kept: only the name of the environment variable of the studio that holds it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from studio.errors import ConfigError, ModelError, Problem, RequestFailed
from studio.files import read_record, write_json
from studio.serving.client import Client, Server

PICK = "url:"  # what a pick of a remote server begins with
PROBE_TIMEOUT_S = 10.0
NAME = re.compile(r"[^\s/:][^/:\n]{0,59}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PORT_MAX = 65535
OWN_VARIABLES = "SEEDBED_"  # the studio's login is nothing to send around


@dataclass(frozen=True)
class Remote:
    """A server by its address, without /v1, and the model that is asked for. `key_env` names a variable, or is empty.

    Raises:
        ConfigError: with everything that is wrong in it.
    """

    name: str
    url: str
    model: str
    key_env: str = ""

    def __post_init__(self) -> None:
        scheme, colon, rest = self.url.strip().rstrip("/").removesuffix("/v1").partition(":")
        object.__setattr__(self, "url", f"{scheme.lower()}{colon}{rest}")
        if problems := list(_problems(self)):
            raise ConfigError(problems)

    @property
    def pick(self) -> str:
        """What stands for it where models are picked."""
        return f"{PICK}{self.name}"

    def server(self) -> Server:
        """Where to ask, with the key as the environment has it now.

        Raises:
            RequestFailed: the variable is not set any more.
        """
        if self.key_env and not os.environ.get(self.key_env):
            raise RequestFailed(
                f"{self.name}: the environment variable {self.key_env}, which holds its key, is not set for the "
                "studio: set it and start the studio again"
            )
        return Server(self.url, os.environ[self.key_env] if self.key_env else "")


@dataclass(frozen=True)
class Remotes:
    """The remote servers that are known below `saves`."""

    saves: Path

    def list(self) -> list[Remote]:
        """All of them, by name."""
        return sorted(_read(self._path), key=lambda remote: remote.name)

    def get(self, name: str) -> Remote:
        """The one of that name.

        Raises:
            ModelError: there is none.
        """
        for remote in self.list():
            if remote.name == name:
                return remote
        raise ModelError(f"There is no remote server called {name!r}: add it by its address")

    def add(self, remote: Remote) -> None:
        """Keep it; one of the same name is replaced.

        Raises:
            ConfigError: its key's variable is not set.
        """
        if remote.key_env and not os.environ.get(remote.key_env):
            # not repeated here: people paste the key itself
            what = "there is no such variable in the studio's environment: give the variable's name, never the key"
            raise ConfigError([Problem("key_env", what)])
        self._write([*(known for known in self.list() if known.name != remote.name), remote])

    def remove(self, name: str) -> None:
        """Forget it; nothing happens where there is none of that name."""
        self._write([known for known in self.list() if known.name != name])

    @property
    def _path(self) -> Path:
        return self.saves / "remotes.json"

    def _write(self, remotes: Iterable[Remote]) -> None:
        self.saves.mkdir(parents=True, exist_ok=True)
        write_json(self._path, {"remotes": [asdict(remote) for remote in remotes]})


async def probe(remote: Remote, timeout_s: float = PROBE_TIMEOUT_S) -> list[str]:
    """The names of the models that it offers.

    Raises:
        SidecarNotReady, RequestFailed: it does not, in a sentence.
    """
    try:
        async with asyncio.timeout(timeout_s), Client(remote.server()) as client:
            return await client.models()
    except TimeoutError:
        raise RequestFailed(
            f"{remote.url} took the connection and did not answer within {timeout_s:.0f} s: is it a model server?"
        ) from None


def _problems(remote: Remote) -> Iterator[Problem]:
    if not NAME.fullmatch(remote.name):
        yield Problem("name", "give it a short name without slash and colon")
    yield from _address_problems(remote.url)
    if not remote.model.strip():
        yield Problem("model", "name the model that is to answer; the server lists what it has")
    if remote.key_env and not VARIABLE.fullmatch(remote.key_env):
        yield Problem("key_env", "give the name of the environment variable that holds the key, never the key itself")
    elif remote.key_env.startswith(OWN_VARIABLES):
        yield Problem("key_env", f"variables that begin with {OWN_VARIABLES} are the studio's own")


def _address_problems(address: str) -> Iterator[Problem]:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        url = httpx.URL("")
    port = 80 if url.port is None else url.port
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host or not 0 < port <= PORT_MAX:
        yield Problem("url", "write the address as http://host:port")
    elif url.userinfo or url.query or url.fragment:
        yield Problem("url", "leave out user, password, question mark and #: a key belongs into a variable")


def _read(path: Path) -> Iterator[Remote]:
    """A damaged entry is no reason to lose the others."""
    found = read_record(path).get("remotes")
    for value in found if isinstance(found, list) else ():
        try:
            yield Remote(**value)
        except (TypeError, AttributeError, ConfigError):
            continue
