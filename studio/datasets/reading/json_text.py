"""JSON rows: one object a line, or the elements of one list, read through a window that never holds the whole file.

Syntax errors say the row, line and column, what was expected there and what stands there.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from studio.datasets.reading.bytestream import BEGIN, ROW_MAX_BYTES, Mark, decode, too_long
from studio.errors import RowError

_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
# a number, a word (true) or an escape (\u12ab) that the end of the window cut may look wrong this near to it
_CUT_CHARS = 12
_EXPECTED = {
    "Expecting value": "a value",
    "Expecting property name enclosed in double quotes": "a field name in double quotes",
    "Illegal trailing comma before end of object": "no comma before the closing brace",
    "Illegal trailing comma before end of array": "no comma before the closing bracket",
    "Expecting ',' delimiter": "',' or the closing bracket",
    "Expecting ':' delimiter": "':' after the field name",
    "Unterminated string starting at": "a closing double quote for the text that starts here",
    "Invalid control character at": "no bare line break or control character inside text (write \\n)",
    "Invalid \\escape": 'one of \\n \\t \\" \\\\ \\/ \\b \\f \\r \\uXXXX after the backslash',
    "Invalid \\uXXXX escape": "four hexadecimal digits after \\u",
    "Extra data": "the end of the row",
}


class _NotJSON(ValueError):
    """What Python's parser would let through although it is no JSON."""


def _refuse_constant(name: str) -> Any:
    raise _NotJSON(f"{name} is not JSON: use a number, null or text in quotes")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_line(data: bytes, mark: Mark) -> dict[str, Any]:
    """The object on one line.

    Raises:
        RowError: no JSON, or no object.
        UploadError: not UTF-8.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        # the slow way round: for the message, and for what orjson alone refuses (integers beyond 64 bits)
        value = _parse_slowly(decode(data, mark).rstrip(), mark)
    if not isinstance(value, dict):
        raise RowError(mark.row, f"(line {mark.line}) must be an object {{…}}, found {type(value).__name__}")
    return value


def is_object(data: bytes) -> bool:
    """Whether `data` is one whole JSON object."""
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def _parse_slowly(text: str, mark: Mark) -> Any:
    try:
        value, end = _DECODER.raw_decode(text, _skip(text, 0))
        if _skip(text, end) != len(text):
            raise json.JSONDecodeError("Extra data", text, _skip(text, end))  # noqa: TRY301 one place words them all
    except json.JSONDecodeError as error:
        raise RowError(mark.row, f"line {mark.line}, column {error.pos + 1}: {_sentence(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RowError(mark.row, f"line {mark.line}: {_reason(error)}") from error
    return _checked(value, text, mark)


def _checked(value: Any, text: str, mark: Mark) -> Any:
    """`value`, unless an escape in its `text` made half of a character, which no file can hold as UTF-8."""
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise RowError(mark.row, f"line {mark.line}: {half} is half of a character: remove it") from error
    return value


def _sentence(error: json.JSONDecodeError) -> str:
    found = f"found {error.doc[error.pos]!r}" if error.pos < len(error.doc) else "the file or row ends here"
    return f"expected {_EXPECTED.get(error.msg, error.msg)}, {found}"


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error) if isinstance(error, _NotJSON) else f"a number has too many digits ({error})"


def elements(stream: BinaryIO, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The elements of the list in `stream`, which stands at `start`: the list's bracket, or any element.

    Raises:
        RowError: broken JSON; what comes after it cannot be told.
    """
    window = _Window(stream, start)
    if start == BEGIN:
        window.expect("[", "a list of rows: [{…}, …]")
        if window.peek() == "]":
            window.finish()
            return
    while True:
        window.skip_space()
        mark = window.mark()
        yield mark, window.value()
        window.row += 1
        if window.peek() == "]":
            window.finish()
            return
        window.expect(",", "',' before the next row, or ']' after the last")


class _Window:
    """A piece of the text, moved forward as it is consumed. `at` is the next character in it."""

    def __init__(self, stream: BinaryIO, start: Mark) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._ended = False
        self._bad_bytes = b""
        self._column = 0
        self.row, self._offset, self._line = start

    def mark(self) -> Mark:
        return Mark(self.row, self._offset, self._line)

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        self.skip_space()
        return self._text[self._at : self._at + 1]

    def skip_space(self) -> None:
        self._consume(_skip(self._text, self._at))
        while self._at == len(self._text) and self._grow():
            self._consume(_skip(self._text, self._at))

    def expect(self, character: str, expected: str) -> None:
        found = self.peek()
        if found != character:
            raise self._error(self._at, f"expected {expected}, {f'found {found!r}' if found else 'the file ends here'}")
        self._consume(self._at + 1)

    def finish(self) -> None:
        """Past the closing bracket there may only be space."""
        self._consume(self._at + 1)
        found = self.peek()
        if found:
            raise self._error(self._at, f"expected the end of the file after the list, found {found!r}")

    def value(self) -> Any:
        """The value that begins here."""
        value, end = self._parse()
        # a number that touches the window's end may go on in the next piece
        while end == len(self._text) and self._grow():
            value, end = self._parse()
        if end - self._at > ROW_MAX_BYTES:
            raise too_long(self.mark())
        checked = _checked(value, self._text[self._at : end], self.mark())
        self._consume(end)
        return checked

    def _parse(self) -> tuple[Any, int]:
        while True:
            try:
                return _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._grow()):
                    raise self._error(error.pos, _sentence(error)) from error
            except (ValueError, RecursionError) as error:
                raise self._error(self._at, _reason(error)) from error

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _CUT_CHARS

    def _grow(self) -> bool:
        """Read another piece, letting go of what was consumed; whether there was one."""
        self._refuse_bad_bytes()
        if self._ended:
            return False
        if len(self._text) - self._at > ROW_MAX_BYTES:
            raise too_long(self.mark())
        data = self._stream.read(max(_CHUNK_BYTES, len(self._text) - self._at))
        more = self._decode(data)
        if not data:
            self._ended = True
            self._refuse_bad_bytes()
            return False
        self._column = self._column_of(self._at) - 1
        self._text = self._text[self._at :] + more
        self._at = 0
        return True

    def _decode(self, data: bytes) -> str:
        """`data` as text, up to what is no UTF-8: the rows before that are still read."""
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            self._bad_bytes = error.object[error.start :]
            return error.object[: error.start].decode()

    def _refuse_bad_bytes(self) -> None:
        if self._bad_bytes:
            decode(self._bad_bytes, self.mark())

    def _consume(self, end: int) -> None:
        passed = self._text[self._at : end]
        self._offset += len(passed.encode())
        self._line += passed.count("\n")
        self._at = end

    def _column_of(self, position: int) -> int:
        before = self._text.rfind("\n", 0, position)
        return position - before if before >= 0 else self._column + position + 1

    def _error(self, position: int, what: str) -> RowError:
        line = self._line + self._text.count("\n", self._at, position)
        return RowError(self.row, f"line {line}, column {self._column_of(position)}: {what}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
