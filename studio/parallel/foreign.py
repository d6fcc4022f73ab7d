"""Settings of another program as options of a training: each key is taken, without effect, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.errors import Problem

Values = dict[str, Any]
NOTHING: tuple[Any, ...] = (None, "", "null", {}, [], "auto")  # what somebody writes who wants nothing of a key


class RefusedError(ValueError):
    """A value that cannot be had here; its text says what to use instead."""


@dataclass(frozen=True)
class Fates:
    """What becomes of the keys of one section. `taken` gives options for a value; both others give a reason."""

    taken: Mapping[str, Callable[[Any], Values]]
    inert: Mapping[str, str]
    refused: Mapping[str, str]

    @property
    def keys(self) -> set[str]:
        """All that are known."""
        return {*self.taken, *self.inert, *self.refused}


@dataclass
class Reading:
    """What a file comes to: options, what is to be told of it, and what is wrong."""

    options: Values = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(values: Mapping[str, Any], fates: Fates, section: str) -> Reading:
    """`values` of a section by their fates; `section` is what the user calls it."""
    found = Reading()
    for key, value in values.items():
        if not any(value is nothing or value == nothing for nothing in NOTHING):
            _read_one(found, f"{section}.{key}", key, value, fates)
    return found


def _read_one(found: Reading, where: str, key: str, value: Any, fates: Fates) -> None:
    if taking := fates.taken.get(key):
        try:
            found.options |= taking(value)
        except RefusedError as error:
            found.problems.append(Problem(where, f"{value} is not supported; {error}"))
        except (TypeError, ValueError):
            found.problems.append(Problem(where, f"cannot be understood (got {value!r:.60})"))
    elif key not in fates.keys:
        found.problems.append(Problem(where, "there is no such key"))
    elif value in (False, "no", "NO"):
        return
    elif why := fates.inert.get(key):
        found.notes.append(Problem(where, why))
    else:
        found.problems.append(Problem(where, f"is not supported; use instead: {fates.refused[key]}"))


def named(option: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[[Any], Values]:
    """Taken as that option."""
    return lambda value: {option: convert(value)}


def chosen(choices: Mapping[str, Values], instead: str) -> Callable[[Any], Values]:
    """Taken by what the value is called, in any case of letters; others are refused."""

    def take(value: Any) -> Values:
        try:
            return dict(choices[str(value).upper()])
        except KeyError:
            raise RefusedError(f"use instead: {instead}") from None

    return take


def switched(options: Values) -> Callable[[Any], Values]:
    """Those options where it is on; as YAML or JSON or a person writes it."""
    return lambda value: dict(options) if is_on(value) else {}


def is_on(value: Any) -> bool:
    """Whether a switch is on, be it a text."""
    return str(value).lower() in ("true", "1", "yes", "on")
