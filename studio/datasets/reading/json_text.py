"""JSON rows: one object a line, or the elements of one list, read through a window that never holds the whole file.

Syntax errors say the row, line and column, what was expected there and what stands there.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import orjson

from studio.datasets.reading.mark import (
    DEPTH_MAX,
    ROW_MAX_BYTES,
    Doubled,
    Mark,
    Record,
    Unpassable,
    as_record,
    decode,
    too_deep,
    too_long,
)
from studio.errors import RowError

_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
# a number that may have been an integer; an object that named a field twice
ROUNDED, DOUBLED = 1, 2
_WHOLE_MAX = 2.0**63  # orjson reads an integer beyond 64 bits as the nearest such number, without a word
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


def _object(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    return _doubled(record, tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1))


def _doubled(record: Record, names: tuple[str, ...]) -> Doubled:
    doubled = Doubled(record)
    doubled.names = names
    return doubled


def _decoder(constants: list[str]) -> json.JSONDecoder:
    """Python's parser, which would let NaN and Infinity through: it notes them in `constants`."""
    return json.JSONDecoder(parse_constant=constants.append, object_pairs_hook=_object)


def parse_line(data: bytes, mark: Mark) -> Record:
    """The object on one line.

    Raises:
        RowError: no JSON, no object, not UTF-8, too long or too deep.
    """
    if len(data) > ROW_MAX_BYTES:
        raise too_long(mark)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        # the slow way round: for the message, and for what orjson alone refuses (integers beyond 64 bits)
        return parse_element(_parse_slowly(decode(data, mark).rstrip(), mark), mark)
    record = value if type(value) is dict else as_record(value, mark)
    if _oddities(record.values(), DEPTH_MAX - 1, mark):
        return parse_element(_parse_slowly(decode(data, mark), mark), mark)
    return record


def examine_line(data: bytes, mark: Mark) -> Record:
    """As `parse_line`, and the record also tells which fields were named twice, which takes longer."""
    record = parse_line(data, mark)
    if _names_each_field_once(data, record):
        return record
    return parse_element(_parse_slowly(data.decode(), mark), mark)


def parse_element(value: Any, mark: Mark) -> Record:
    """What Python's parser made of a row, as a record; it also tells which fields objects inside it named twice.

    Raises:
        RowError: no object, or too deep.
    """
    if isinstance(value, RowError):
        raise value
    record = as_record(value, mark)
    odd = _oddities((record,), DEPTH_MAX, mark)
    return _doubled(record, tuple(dict.fromkeys(_doubled_in(record)))) if odd & DOUBLED else record


def is_object(data: bytes) -> bool:
    """Whether `data` is one whole JSON object."""
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def _oddities(values: Iterable[Any], depth: int, mark: Mark) -> int:
    """What there is among `values`, inner ones too, that cannot stay as it is: the sum of ROUNDED and DOUBLED.

    Raises:
        RowError: they are nested too deeply.
    """
    if not depth:
        raise too_deep(mark)
    found = 0
    for value in values:
        kind = type(value)
        if kind is str:
            continue
        if kind is list:
            found |= _oddities(value, depth - 1, mark)
        elif kind is dict:
            found |= _oddities(value.values(), depth - 1, mark)
        elif kind is float:
            found |= ROUNDED * (abs(value) >= _WHOLE_MAX)
        elif kind is Doubled:
            found |= DOUBLED | _oddities(value.values(), depth - 1, mark)
    return found


def _names_each_field_once(data: bytes, record: Record) -> bool:
    """Whether the text of `record` has no more strings, field names among them, than were kept of it."""
    quotes = data.count(b'"')
    if b"\\" in data:
        quotes -= data.replace(b"\\\\", b"").count(b'\\"')
    return quotes == 2 * _string_count(record)


def _string_count(node: Any) -> int:
    """The strings in an object or list, field names among them."""
    count = 0
    if type(node) is dict:
        count = len(node)
        node = node.values()
    for child in node:
        kind = type(child)
        if kind is str:
            count += 1
        elif kind is dict or kind is list:
            count += _string_count(child)
    return count


def _doubled_in(node: Any) -> Iterator[str]:
    """The field names that objects in a value had twice."""
    if isinstance(node, Doubled):
        yield from node.names
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from _doubled_in(child)


def _parse_slowly(text: str, mark: Mark) -> Any:
    constants: list[str] = []
    try:
        value, end = _decoder(constants).raw_decode(text, _skip(text, 0))
        if _skip(text, end) != len(text):
            raise json.JSONDecodeError("Extra data", text, _skip(text, end))  # noqa: TRY301 one place words them all
    except json.JSONDecodeError as error:
        raise RowError(mark.row, f"line {mark.line}, column {error.pos + 1}: {_sentence(error)}") from error
    except RecursionError as error:
        raise too_deep(mark) from error
    except ValueError as error:
        raise RowError(mark.row, f"line {mark.line}: {_digits(error)}") from error
    return _checked(value, text, constants, mark)


def _checked(value: Any, text: str, constants: list[str], mark: Mark) -> Any:
    """`value`, unless its `text` has what Python reads and no other reader of JSON does."""
    if constants:
        what = f"{constants[0]} is not JSON: use a number, null or text in quotes"
        raise RowError(mark.row, f"line {mark.line}: {what}", "nan_literal")
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


def _digits(error: ValueError) -> str:
    return f"a number has too many digits ({error})"


def elements(stream: BinaryIO, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The elements of the list in `stream`, which stands at `start`: the list's bracket, or any element.

    An element that ends well but must not be used (NaN in it) is a RowError.

    Raises:
        Unpassable: broken JSON; what comes after it cannot be told.
    """
    window = _Window(stream, start)
    try:
        yield from _elements(window, first=not start.offset)
    except RowError as error:
        raise Unpassable(window.mark(), error) from error


def _elements(window: _Window, first: bool) -> Iterator[tuple[Mark, Any]]:
    if first:
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
        self._constants: list[str] = []
        self._json = _decoder(self._constants)
        self._text = ""
        self._at = 0
        self._ended = False
        self._bad_bytes = b""
        self._column = 0
        self.row, self._offset, self._line, self._file = start

    def mark(self) -> Mark:
        return Mark(self.row, self._offset, self._line, self._file)

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        self.skip_space()
        return self._text[self._at : self._at + 1]

    def skip_space(self) -> None:
        while True:
            end = _skip(self._text, self._at)
            if end > self._at:
                self._consume(end)
            if end < len(self._text) or not self._grow():
                return

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
        """The value that begins here; a RowError where it ends well but must not be used."""
        value, end = self._parse()
        # a number that touches the window's end may go on in the next piece
        while end == len(self._text) and self._grow():
            value, end = self._parse()
        mark, text = self.mark(), self._text[self._at : end]
        self._consume(end)
        try:
            return _checked(value, text, self._constants, mark) if len(text) <= ROW_MAX_BYTES else too_long(mark)
        except RowError as error:
            return error

    def _parse(self) -> tuple[Any, int]:
        while True:
            self._constants.clear()
            try:
                return self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not (self._may_be_cut(error) and self._grow()):
                    raise self._error(error.pos, _sentence(error)) from error
            except RecursionError as error:
                raise too_deep(self.mark()) from error
            except ValueError as error:
                raise self._error(self._at, _digits(error)) from error

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
        self._offset += len(passed) if passed.isascii() else len(passed.encode())
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
