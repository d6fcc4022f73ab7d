"""Where the studio listens and where its folders are. Read once, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studio.errors import ConfigError, Problem

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "studio" / "assets"
PRESETS = ROOT / "studio" / "presets"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Settings:
    """The studio's own settings; secrets come from the environment alone."""

    host: str = "127.0.0.1"
    port: int = 7860
    data_dir: Path = ROOT / "data"
    saves_dir: Path = ROOT / "saves"
    models_dir: Path | None = None
    auth: tuple[str, str] | None = field(default=None, repr=False)
    next_port: bool = False
    share_without_login: bool = False


def from_environment(environment: Mapping[str, str] = os.environ, **given: object) -> Settings:
    """Settings from SEEDBED_* variables, overridden by what was `given` on the command line (None: not given).

    Raises:
        ConfigError: a port that is no port, or an open address without a login.
    """
    values: dict[str, object] = {
        "host": environment.get("SEEDBED_HOST") or None,
        "port": _port(environment.get("SEEDBED_PORT")),
        "data_dir": folder(environment.get("SEEDBED_DATA")),
        "saves_dir": folder(environment.get("SEEDBED_SAVES")),
        "models_dir": folder(environment.get("SEEDBED_MODELS")),
        "auth": _login(environment.get("SEEDBED_AUTH")),
    }
    values.update({key: value for key, value in given.items() if value is not None})
    settings = Settings(**{key: value for key, value in values.items() if value is not None})  # type: ignore[arg-type]
    _guard_open_address(settings)
    return settings


def _guard_open_address(settings: Settings) -> None:
    if settings.host in LOOPBACK or settings.auth or settings.share_without_login:
        return
    what = (
        f"{settings.host} can be reached from other machines, and anyone who reaches the studio can start "
        "processes and read its data. Set SEEDBED_AUTH=user:password, or pass --share-without-login if a "
        "login stands in front of it"
    )
    raise ConfigError([Problem("host", what)])


def _port(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) < 65536:
        raise ConfigError([Problem("SEEDBED_PORT", f"{text!r} is not a port: use a number from 1 to 65535")])
    return int(text)


def folder(text: str | None) -> Path | None:
    """A folder as typed by a person, absolute; None where nothing was typed."""
    return Path(text).expanduser().resolve() if text else None


def _login(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ConfigError([Problem("SEEDBED_AUTH", "write it as user:password, both not empty")])
    return user, password
