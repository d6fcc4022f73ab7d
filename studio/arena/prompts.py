"""What contestants are asked: typed prompts, or those of a dataset drawn by chance."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from studio.arena.votes import Message
from studio.config.arena import ArenaConfig
from studio.datasets import formats
from studio.datasets.formats import Conversation, Feedback, Preference, Row
from studio.datasets.loading import Fault, Scanned, scan
from studio.datasets.registry import Registry
from studio.errors import DatasetError

CATEGORY = re.compile(r"\[([^\[\]]+)\]\s*(\S.*)")
SPOKEN = ("system", "user", "assistant")

T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """Turns that end with what is asked, and the system prompt above them. `number` counts from 0."""

    number: int
    messages: tuple[Message, ...]
    system: str = ""
    category: str = ""

    @property
    def request(self) -> list[Message]:
        """The turns as a server takes them."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages]


def prompts(config: ArenaConfig, registry: Registry) -> list[Prompt]:
    """The prompts of an arena, in the order in which they are asked.

    Raises:
        DatasetError: no such set, no such column, or no row that asks anything.
    """
    found = _drawn(config, registry) if config.dataset else _typed(config.prompts or "")
    return [_numbered(number, *each, config.default_system or "") for number, each in enumerate(found)]


Asked = tuple[tuple[Message, ...], str]


def _numbered(number: int, messages: tuple[Message, ...], category: str, system: str) -> Prompt:
    if messages[0]["role"] == "system":
        return Prompt(number, messages[1:], messages[0]["content"], category)
    return Prompt(number, messages, system, category)


def _typed(text: str) -> list[Asked]:
    return [_line(line.strip()) for line in text.splitlines() if line.strip()]


def _line(line: str) -> Asked:
    found = CATEGORY.fullmatch(line)
    category, asked = found.groups() if found else ("", line)
    return ({"role": "user", "content": asked},), category.strip()


def _drawn(config: ArenaConfig, registry: Registry) -> list[Asked]:
    name = str(config.dataset)
    entry, chance = registry.entry(name), random.Random(config.seed)
    rows = islice(scan(registry.file(name), entry), entry.num_samples)
    drawn = _sample(_asked(rows, config.category_column), config.num_prompts, chance)
    if not drawn:
        raise DatasetError(
            f"{name} has no row that asks something in words: plain text and calls of tools are no prompts"
        )
    return drawn


def _sample(items: Iterable[T], count: int, chance: random.Random) -> list[T]:
    """`count` of the items, each as likely as any other, in an order drawn by chance; only those are in memory."""
    kept: list[T] = []
    for seen, item in enumerate(items):
        if seen < count:
            kept.append(item)
        elif (place := chance.randrange(seen + 1)) < count:
            kept[place] = item
    chance.shuffle(kept)
    return kept


def _asked(rows: Iterable[Scanned], column: str | None) -> Iterator[Asked]:
    """The prompt of every row that has one, with what its `column` says."""
    for row in rows:
        if isinstance(row.value, Fault) or row.record is None:
            continue
        if column and column not in row.record:
            raise DatasetError(f"row {row.mark.row} has no column {column!r}; it has {', '.join(map(str, row.record))}")
        if turns := _prompt_of(row.value):
            yield tuple({"role": turn.role, "content": turn.content} for turn in turns), _text(row.record, column)


def _text(record: dict[str, object], column: str | None) -> str:
    value = record[column] if column else None
    return "" if value is None else str(value).strip()


def _prompt_of(value: Row) -> tuple[formats.Message, ...]:
    """The turns before the answer; none where they are not all words."""
    if isinstance(value, Preference):
        turns = value.prompt
    else:
        turns = value.messages[:-1] if isinstance(value, Conversation | Feedback) else ()
    return turns if all(turn.role in SPOKEN and not turn.tool_calls for turn in turns) else ()
