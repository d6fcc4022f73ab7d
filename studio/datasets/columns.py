"""What the columns of a sample hold: text, turns, a judgement …, each under its name and its name in words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.datasets.reading import Record

# fmt: off
ABOUT = frozenset((
    "id", "ids", "idx", "index", "uuid", "guid", "hash", "sha", "md5", "url", "uri", "link", "date", "time",
    "timestamp", "lang", "language", "split", "category", "score", "rating", "tokens", "length", "count", "type",
    "name", "title", "author", "license", "meta", "metadata",
    "编号", "序号", "标题", "来源", "类别", "分类", "日期", "时间", "作者", "链接",
))
# fmt: on
ROLES = {
    "user_tag": ("human", "user", "prompter", "customer", "question", "用户"),
    "assistant_tag": ("gpt", "assistant", "bot", "chatbot", "chatgpt", "model", "ai", "agent", "助手"),
    "system_tag": ("system", "developer"),
    "observation_tag": ("observation", "tool", "tool_response", "function_response", "function", "ipython"),
    "function_tag": ("function_call", "tool_call"),
}
SPOKEN = ("value", "content", "text", "message")
# `user_message` means the same as `user`
KINDS_OF_TEXT = ("_text", "_message", "_content", "_str")


@dataclass(frozen=True)
class Table:
    """What a sample shows of each column: its kind of value, and for columns of turns the tags.

    Kinds are text, turns, turn, objects, pairs, list, flag, number, mixed and empty.
    """

    kinds: Mapping[str, str]
    tags: Mapping[str, Mapping[str, str]]
    records: Sequence[Record]

    def named(self, wanted: Iterable[str], *kinds: str, besides: str | None = None) -> str | None:
        """The first column of one of these kinds that is called one of these words, in the order of the words."""
        by_word: dict[str, str] = {}
        for spell in (words, _bare):
            for name, kind in self.kinds.items():
                if kind in kinds and name != besides:
                    by_word.setdefault(spell(name), name)
        return next((by_word[form] for word in wanted for form in (word, f"{word}s") if form in by_word), None)

    def texts(self) -> list[str]:
        """Columns of text that are not about the row (ids, dates, links)."""
        return [name for name, kind in self.kinds.items() if kind == "text" and not _is_about(name)]

    def mean_chars(self, name: str) -> float:
        """Characters of a text in this column."""
        return sum(len(str(record.get(name) or "")) for record in self.records) / max(1, len(self.records))

    def describe(self) -> str:
        """Every column with its kind."""
        return ", ".join(f"{name} ({kind})" for name, kind in self.kinds.items()) or "there are none"


def tabulate(records: Sequence[Record]) -> Table:
    """The table of some rows of a file."""
    values: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            values.setdefault(name, []).append(value)
    kinds = {name: _column_kind(column) for name, column in values.items()}
    chats = {name: _chat_tags(column) for name, column in values.items() if kinds[name] in ("turns", "turn")}
    for name, tags in chats.items():
        if tags is None:
            kinds[name] = "objects"
    return Table(kinds, {name: tags for name, tags in chats.items() if tags is not None}, records)


def words(name: str) -> str:
    """A column's name in words: `userPrompt`, `User Prompt` and `user-prompt` are all `user_prompt`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return "_".join(re.findall(r"[^\W_]+", split.lower()))


def turns_of(value: Any) -> list[Any] | None:
    """The list that `value` is, or that it spells as JSON."""
    if isinstance(value, str) and value.lstrip().startswith(("[{", "[[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def are_roles(values: Sequence[Any]) -> bool:
    """Whether these are names of who speaks, nearly all of them."""
    known = sum(str(value).lower() in roles for value in values for roles in ROLES.values())
    return known >= 0.8 * len(values) > 0


def _bare(name: str) -> str:
    spelt = words(name)
    return next((spelt.removesuffix(end) for end in KINDS_OF_TEXT if spelt.endswith(end)), spelt)


def _is_about(name: str) -> bool:
    return words(name).split("_")[-1] in ABOUT


# --- kinds ------------------------------------------------------------------------------------------------------


def _column_kind(values: Sequence[Any]) -> str:
    counts = Counter(_kind(value) for value in values)
    for nothing in ("null", "blank"):
        if len(counts) > 1:
            counts.pop(nothing, None)
    kind, count = counts.most_common(1)[0]
    if kind in ("null", "blank"):
        return "empty"
    return kind if count >= 0.8 * counts.total() else "mixed"


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return _text_kind(value)
    if value is None or value == []:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, list):
        return _list_kind(value)
    return "turn" if isinstance(value, dict) else "number"


def _text_kind(value: str) -> str:
    if value.strip().lower() in ("true", "false"):
        return "flag"
    if not value.strip():
        return "blank"
    turns = turns_of(value)
    return _list_kind(turns) if turns else "text"


def _list_kind(value: Sequence[Any]) -> str:
    if all(isinstance(item, dict) for item in value):
        return "turns"
    if all(isinstance(item, list) and len(item) == 2 for item in value):
        return "pairs"
    return "list"


# --- turns ------------------------------------------------------------------------------------------------------


def _chat_tags(values: Sequence[Any]) -> dict[str, str] | None:
    """The tags of a column of turns; None where no key of its objects holds roles."""
    turns = [turn for value in values for turn in ([value] if isinstance(value, dict) else turns_of(value) or ())]
    turns = [turn for turn in turns if isinstance(turn, dict)]
    keys = Counter(key for turn in turns for key, value in turn.items() if isinstance(value, str))
    role_key = next((key for key in keys if are_roles([turn.get(key) for turn in turns])), None)
    content_key = next((key for key in SPOKEN if key in keys and key != role_key), None)
    if role_key is None or content_key is None:
        return None
    return {"role_tag": role_key, "content_tag": content_key, **_role_tags(turns, role_key)}


def _role_tags(turns: Sequence[dict[str, Any]], key: str) -> dict[str, str]:
    """The name that each role has most often, as it is written there."""
    names = Counter(str(turn.get(key)) for turn in turns)
    tags = {}
    for tag, roles in ROLES.items():
        found = [name for name, _ in names.most_common() if name.lower() in roles]
        if found:
            tags[tag] = found[0]
    return tags
