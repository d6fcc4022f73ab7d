"""Places in a data file, and what is said about the rows there."""

from __future__ import annotations

from typing import Any, NamedTuple

from studio.errors import RowError

ROW_MAX_BYTES = 16 << 20
DEPTH_MAX = 100
# places to start from lie at most so far apart
MARK_BYTES = 1 << 18
MARK_ROWS = 1024
_KINDS = {str: "a text", int: "a number", float: "a number", bool: "a truth value", list: "a list", type(None): "null"}
Record = dict[str, Any]


class Mark(NamedTuple):
    """Where a row begins; reading can start there.

    `row` and `line` count from 1; rows run on through the files of a folder, lines do not. `offset` is what comes
    before it in its file: bytes of text, or rows where a file keeps them by columns. `file` is its place in the
    folder, from 0.
    """

    row: int
    offset: int
    line: int
    file: int = 0


BEGIN = Mark(1, 0, 1)


class Unpassable(RowError):
    """A row at fault after which nothing can be read; it begins at `mark`."""

    def __init__(self, mark: Mark, error: RowError) -> None:
        super().__init__(error.row, str(error).removeprefix(f"row {error.row}: "), error.code)
        self.mark = mark


def is_due(mark: Mark, last: Mark) -> bool:
    """Whether `mark` is far enough from the `last` place to start from to be the next one."""
    far = mark.offset - last.offset >= MARK_BYTES or mark.row - last.row >= MARK_ROWS
    return far or mark.file != last.file


class Doubled(Record):
    """A record of an object that named a field more than once: the last value counts, `names` are the fields."""

    names: tuple[str, ...] = ()


def duplicate_keys(record: Record) -> tuple[str, ...]:
    """The field names, inner ones too, that `record` had twice in one object of its file."""
    return record.names if isinstance(record, Doubled) else ()


def decode(data: bytes, mark: Mark) -> str:
    """`data` as text.

    Raises:
        RowError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte 0x{data[error.start]:02x}): save the file as UTF-8 (it may be GBK or Latin-1 now)"
        raise RowError(mark.row, f"(line {mark.line}) {what}") from error


def too_long(mark: Mark) -> RowError:
    """The error for a row that no model could be trained on and that would fill the memory."""
    return RowError(mark.row, f"(line {mark.line}) is longer than {ROW_MAX_BYTES >> 20} MB: split it")


def too_deep(mark: Mark) -> RowError:
    """The error for a row that nothing could walk through."""
    what = f"is nested too deeply: more than {DEPTH_MAX} levels. Flatten it"
    return RowError(mark.row, f"(line {mark.line}) {what}", "too_deep")


def as_record(value: Any, mark: Mark) -> Record:
    """`value`, if it is an object.

    Raises:
        RowError: it is something else.
    """
    if not isinstance(value, dict):
        found = _KINDS.get(type(value), "something else")
        raise RowError(mark.row, f"(line {mark.line}) must be an object {{…}}, found {found}", "wrong_type")
    return value
