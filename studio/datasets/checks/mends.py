"""What single repairs do to a record. What is not changed is given back as the very same object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from studio.datasets.checks.characters import CONTROLS, INVISIBLE, RULES
from studio.datasets.entry import Entry
from studio.datasets.formats import Misfit, Row, convert
from studio.datasets.formats.fields import parsed
from studio.datasets.reading import Record, duplicate_keys
from studio.errors import RowError

# a record as it shall be, or None where its row is left out
Mend = Callable[[int, Record], Record | None]
# a text as it shall be; the truth value says whether it is an answer
Change = Callable[[str, bool], str]

_READ = {
    "alpaca": ("prompt", "query", "response", "system", "history", "chosen", "rejected"),
    "sharegpt": ("messages", "system", "chosen", "rejected"),
}
_ANSWERS = ("response", "chosen", "rejected")
_PATTERNS = {rule.code: rule.pattern for rule in RULES}


def fix_mojibake(entry: Entry) -> Mend:
    """Texts that were read with the wrong encoding, read again with the right one."""
    from ftfy import fix_encoding

    return _changing(entry, lambda text, _: fix_encoding(text) if _PATTERNS["mojibake"].search(text) else text)


def strip_control(entry: Entry) -> Mend:
    """Texts without control characters."""
    return _without(entry, CONTROLS)


def strip_invisible(entry: Entry) -> Mend:
    """Texts without characters that have no width or change the direction of writing."""
    return _without(entry, INVISIBLE)


def trim_answers(entry: Entry) -> Mend:
    """Answers without space at their ends."""
    return _changing(entry, lambda text, is_answer: text.strip() if is_answer else text)


def keep_last_key(entry: Entry) -> Mend:
    """The record as it was read: of a field that was named twice the last value."""
    return lambda row, record: dict(record) if duplicate_keys(record) else record


def merge_turns(entry: Entry) -> Mend:
    """One turn where the same role speaks twice in a row: its texts with an empty line between."""
    role_key, content_key = entry.tags["role_tag"], entry.tags["content_tag"]

    def merged(turns: list[Any]) -> list[Any]:
        done: list[Any] = []
        for turn in turns:
            if (
                done
                and _is_spoken(entry, turn)
                and _is_spoken(entry, done[-1])
                and turn[role_key] == done[-1][role_key]
            ):
                done[-1] = {**turn, content_key: f"{done[-1][content_key]}\n\n{turn[content_key]}"}
            else:
                done.append(turn)
        return done

    return _with_turns(entry, merged)


def drop_open_turns(entry: Entry) -> Mend:
    """Conversations up to their last answer."""
    answering = (entry.tags["assistant_tag"], entry.tags["function_tag"])

    def closed(turns: list[Any]) -> list[Any]:
        roles = [turn.get(entry.tags["role_tag"]) if isinstance(turn, dict) else None for turn in turns]
        answered = max((place for place, role in enumerate(roles, 1) if role in answering), default=len(turns))
        return turns[:answered]

    return _with_turns(entry, closed)


def drop_special_tokens(entry: Entry) -> Mend:
    """No row with text that looks like a special token."""
    return _leaving_out(entry, lambda text: bool(_PATTERNS["special_tokens"].search(text)))


def drop_damaged(entry: Entry) -> Mend:
    """No row with characters that an encoding error has lost."""
    return _leaving_out(entry, lambda text: "\ufffd" in text)


def drop_faulty(entry: Entry) -> Mend:
    """No row that cannot be used, or is of another shape than the first that can."""
    first: type[Row] | None = None

    def mend(row: int, record: Record) -> Record | None:
        nonlocal first
        try:
            kind = type(convert(entry, row, record))
        except RowError:
            return None
        first = first or kind
        return record if kind is first else None

    return mend


# --- texts and turns --------------------------------------------------------------------------------------------


def _without(entry: Entry, characters: str) -> Mend:
    table = dict.fromkeys(map(ord, characters))
    return _changing(entry, lambda text, _: text.translate(table))


def _leaving_out(entry: Entry, is_bad: Callable[[str], bool]) -> Mend:
    def mend(row: int, record: Record) -> Record | None:
        return None if any(map(is_bad, texts_of(entry, record))) else record

    return mend


def texts_of(entry: Entry, record: Record) -> Sequence[str]:
    """Every text that is read from `record`, also where the record as a whole cannot be used."""
    texts: list[str] = []

    def note(text: str, is_answer: bool) -> str:
        texts.append(text)
        return text

    _changing(entry, note)(0, record)
    return texts


def _changing(entry: Entry, change: Change) -> Mend:
    """A mend that changes every text that is read from a record."""
    roles = _READ["alpaca" if entry.formatting == "alpaca" else "sharegpt"]
    columns = {entry.columns[role]: role in _ANSWERS for role in roles if role in entry.columns}

    def mend(row: int, record: Record) -> Record:
        new = {name: _changed(entry, record[name], change, columns[name]) for name in columns if name in record}
        return record if all(new[name] is record[name] for name in new) else {**record, **new}

    return mend


def _changed(entry: Entry, value: Any, change: Change, is_answer: bool) -> Any:
    """`value` with its texts changed, however they are nested; the very same where none was."""
    if isinstance(value, str):
        spelled = _spelled(value)
        if spelled is value:
            changed = change(value, is_answer)
            return value if changed == value else changed
        within = _changed(entry, spelled, change, is_answer)
        return value if within is spelled else within
    if isinstance(value, list):
        # [question, answer] in a history; a turn or a part that is the only one is all of the answer
        pair = len(value) == 2 and all(isinstance(text, str) for text in value)
        alone = is_answer and len(value) == 1
        items = [_changed(entry, item, change, alone or (pair and place == 1)) for place, item in enumerate(value)]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if not isinstance(value, dict):
        return value
    key = entry.tags["content_tag"] if entry.tags["content_tag"] in value else "text"
    speaks = is_answer or value.get(entry.tags["role_tag"]) == entry.tags["assistant_tag"]
    within = _changed(entry, value.get(key), change, speaks)
    return value if within is value.get(key) else {**value, key: within}


def _spelled(value: str) -> Any:
    """The list that a text spells as JSON, or the text."""
    try:
        return parsed(value, None)
    except Misfit:
        return value


def _with_turns(entry: Entry, change: Callable[[list[Any]], list[Any]]) -> Mend:
    """A mend that changes the list of turns. Of preferences the turns are the prompt, which may well end openly."""
    name = entry.columns.get("messages", "")
    if entry.formatting == "alpaca" or entry.ranking or not name:
        return lambda row, record: record

    def mend(row: int, record: Record) -> Record:
        turns = _spelled(record[name]) if isinstance(record.get(name), str) else record.get(name)
        changed = change(turns) if isinstance(turns, list) else turns
        return record if changed == turns else {**record, name: changed}

    return mend


def _is_spoken(entry: Entry, turn: Any) -> bool:
    """Whether a turn is a role and a text and nothing else."""
    keys = {entry.tags["role_tag"], entry.tags["content_tag"]}
    return isinstance(turn, dict) and turn.keys() == keys and all(isinstance(text, str) for text in turn.values())
