"""The conversations of a studio on disk: one file each, found, saved, thrown away and taken out again.

A file's first line is the conversation without its panes, so that listing reads no more; then comes a line for each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from studio.conversations import turns
from studio.conversations.conversation import Conversation, Pane, new_id
from studio.errors import ConversationError, PathError
from studio.files import inside, lock, reason_of, write_text

VERSION = 1
DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)
SAID = ("title", "content", "reasoning")
BRANCHES = ("turns", "others")
NOTHING: Mapping[int, Pane] = {}


@dataclass(frozen=True)
class Entry:
    """A conversation as it is listed. `problem` is a sentence on a file that cannot be read."""

    id: str
    title: str
    created: float
    updated: float
    parent: str = ""
    picks: tuple[str, ...] = ()
    prompts: int = 0
    problem: str = ""


_HEAD = TypeAdapter(Conversation)
_PANE = TypeAdapter(Pane)
_ENTRY = TypeAdapter(Entry)


@dataclass(frozen=True)
class Shelf:
    """The conversations in one folder."""

    folder: Path

    def list(self) -> list[Entry]:
        """All conversations, the one that was changed last first."""
        found = (entry for path in self.folder.glob("[!.]*.jsonl") if (entry := _entry(path)))
        return sorted(found, key=lambda entry: entry.updated, reverse=True)

    def search(self, text: str) -> Sequence[Entry]:
        """Those in which every word of `text` occurs, in the title or in what was said, in any version."""
        words = text.casefold().split()
        return [entry for entry in self.list() if not entry.problem and self._holds(entry.id, words)]

    def load(self, conversation_id: str) -> Conversation:
        """The conversation of that id.

        Raises:
            ConversationError: there is none, or its file is damaged.
        """
        return _read(self._path(conversation_id))

    def create(self, conversation: Conversation) -> Conversation:
        """Write a new conversation. As written.

        Raises:
            ConversationError: it cannot be written.
        """
        with self._alone():
            return self._write(conversation)

    def change(
        self, conversation_id: str, function: Callable[[Conversation], Conversation], seen: Mapping[int, Pane] = NOTHING
    ) -> Conversation:
        """Read a conversation, have `function` change it, and write that; nobody else writes meanwhile. As written.

        `seen` are the panes, by index, that `function` builds on as the caller knows them. Where another page has
        changed one of them since, both go on: the change is made to what was seen, and saved as a branch with an id
        of its own.

        Raises:
            ConversationError: the conversation is gone or damaged, or cannot be written.
        """
        with self._alone():
            now = self.load(conversation_id)
            panes = dict(enumerate(now.panes))
            if all(panes.get(index) == pane for index, pane in seen.items()):
                return self._write(function(now))
            known = tuple(pane for _, pane in sorted({**panes, **seen}.items()))
            branch = replace(now, id=new_id(), parent=now.id, created=time.time(), panes=known)
            return self._write(function(branch))

    def rename(self, conversation_id: str, title: str) -> Conversation:
        """Give a conversation another title.

        Raises:
            ConversationError
        """
        return self.change(conversation_id, lambda now: replace(now, title=" ".join(title.split())))

    def delete(self, conversation_id: str) -> None:
        """Move a conversation to the trash, also a damaged one. `restore` undoes it.

        Raises:
            ConversationError: there is none of that id.
        """
        with self._alone():
            _move(self._path(conversation_id), self._trash)

    def restore(self, conversation_id: str) -> None:
        """Bring a conversation back from the trash.

        Raises:
            ConversationError: it is not there.
        """
        with self._alone():
            _move(self._trash / self._path(conversation_id).name, self.folder)

    @property
    def _trash(self) -> Path:
        return self.folder / ".trash"

    def _path(self, conversation_id: str) -> Path:
        try:
            path = inside(self.folder, f"{conversation_id}.jsonl")
        except PathError:
            path = self.folder
        if path.parent != self.folder.resolve() or path.name.startswith("."):
            raise ConversationError(f"{conversation_id!r} is no conversation of this studio")
        return path

    def _holds(self, conversation_id: str, words: Sequence[str]) -> bool:
        try:
            raw = self._path(conversation_id).read_text(encoding="utf-8", errors="replace").casefold()
            if not all(json.dumps(word, ensure_ascii=False)[1:-1] in raw for word in words):
                return False  # far cheaper than reading it
            text = "\n".join(_texts([json.loads(line) for line in raw.strip().split("\n")]))
        except DAMAGE:
            return False
        return all(word in text for word in words)

    def _write(self, conversation: Conversation) -> Conversation:
        saved = replace(
            conversation, title=conversation.title or turns.title(conversation), updated=time.time(),
            created=conversation.created or time.time(),
        )  # fmt: skip
        try:
            text = _text(saved)
        except PydanticSerializationError:
            text = _text(saved := _valid(saved))
        try:
            write_text(self._path(saved.id), text.decode())
        except OSError as error:
            raise ConversationError(f"The conversation could not be saved: {reason_of(error)}") from error
        return saved

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, in all processes: what is on disk must not change between looking and writing."""
        try:
            held = lock(self.folder / ".lock")
        except OSError as error:
            raise ConversationError(f"The conversation could not be saved: {reason_of(error)}") from error
        with held:
            yield


def _move(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(folder / path.name)
    except FileNotFoundError:
        raise ConversationError(f"There is no conversation {path.stem!r} any more") from None


def _text(conversation: Conversation) -> bytes:
    head = _HEAD.dump_python(replace(conversation, panes=()), mode="json")
    picks = [pane.pick for pane in conversation.panes]
    prompts = max((sum(turn.role == "user" for turn in pane.turns) for pane in conversation.panes), default=0)
    first = to_json({"version": VERSION, **head, "picks": picks, "prompts": prompts})
    panes = (_PANE.dump_json(pane, exclude_defaults=True) for pane in conversation.panes)
    return b"".join(line + b"\n" for line in (first, *panes))


def _valid(conversation: Conversation) -> Conversation:
    """The same without halves of characters, which a page may send and no file can hold."""
    value = json.dumps(_HEAD.dump_python(conversation, mode="json"), ensure_ascii=False)
    return _HEAD.validate_json(value.encode("utf-8", "replace"))


def _read(path: Path) -> Conversation:
    try:
        return replace(_parsed(path.read_text(encoding="utf-8")), id=path.stem)
    except FileNotFoundError:
        raise ConversationError(f"There is no conversation {path.stem!r} any more") from None
    except DAMAGE as error:
        raise ConversationError(_damage(path, error)) from error


def _parsed(text: str) -> Conversation:
    first, *others, end = text.split("\n")
    head = _head(first)
    if end or len(others) != len(head["picks"]):
        raise ValueError(f"{len(head['picks'])} panes are named, {len(others)} are there")
    return replace(_HEAD.validate_python(head), panes=tuple(_PANE.validate_json(line) for line in others))


def _head(line: str) -> dict[str, Any]:
    head = json.loads(line)
    if head["version"] > VERSION:
        raise ValueError("it was written by a newer version of the studio")
    return dict(head)


def _entry(path: Path) -> Entry | None:
    """What is listed of a file; None where it is gone by now."""
    try:
        with path.open(encoding="utf-8") as file:
            return replace(_ENTRY.validate_python(_head(file.readline())), id=path.stem)
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        return Entry(path.stem, path.stem, 0.0, 0.0, problem=_damage(path, error))


def _damage(path: Path, error: Exception) -> str:
    return f"{path} is damaged ({_what(error)}): delete it, or put a copy of yours in its place"


def _what(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _texts(value: Any) -> Iterator[str]:
    """What was said, in any version, out of the lines of a file."""
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from (text for key in SAID if isinstance(text := value.get(key), str))
        yield from (text for key in BRANCHES for text in _texts(value.get(key)))
