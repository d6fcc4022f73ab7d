"""Files that other processes read while we write them: replaced or appended, never edited in place.

Standard library only: the nanny imports this and must stay small. Most files have one writer; `lock` is for those that
have several. What it does not do: network file systems without atomic rename.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from studio.errors import PathError

NAME_MAX_BYTES = 120


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` in one step: a reader sees the old text or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Replace `path` by `value` as JSON. Floats that are not finite become null (see `finite`)."""
    write_text(path, json.dumps(finite(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n", mode)


def read_json(path: Path) -> Any | None:
    """The value in `path`, or None where there is no file. A damaged file raises ValueError with its name."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is none, or none that can be read."""
    try:
        value = read_json(path)
    except (ValueError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def append_line(path: Path, value: Any) -> None:
    """Append `value` as one JSON line: all of it, or nothing and an OSError."""
    line = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    data = line.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if (written := os.write(descriptor, data)) < len(data):
            # a disk that fills up takes the first part without complaint, and the next line would stick to it
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def lock(path: Path) -> TextIO:
    """Wait until no process, and no other thread, holds the lock `path`, and hold it until the file is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closing it lets go, which is up to the caller)
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


def read_since(path: Path, cursor: int, limit: int | None = None) -> tuple[bytes, int]:
    """Whole lines after byte `cursor`, and the cursor for the next call. An unfinished last line waits.

    `limit` caps the bytes read (at least one whole line is only guaranteed without it). A file that became
    shorter than the cursor was replaced: reading starts over.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = cursor if 0 <= cursor <= size else 0
            if start == size:
                return b"", start
            file.seek(start)
            data = file.read(-1 if limit is None else limit)
    except FileNotFoundError:
        return b"", 0
    whole = data.rfind(b"\n") + 1
    return data[:whole], start + whole


def tail(path: Path, max_bytes: int) -> str:
    """The last `max_bytes` of a text file, from the start of a line; empty where there is no file."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            data = file.read()
    except FileNotFoundError:
        return ""
    if size > max_bytes:
        data = data[data.find(b"\n") + 1 :]
    return data.decode("utf-8", errors="replace")


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None, and its key listed beside it under `not_finite`."""
    if isinstance(value, dict):
        broken = sorted(key for key, item in value.items() if isinstance(item, float) and not math.isfinite(item))
        clean = {key: finite(item) for key, item in value.items()}
        return {**clean, "not_finite": broken} if broken else clean
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def inside(root: Path, name: str | Path) -> Path:
    """`name` resolved below `root`.

    Raises:
        PathError: the name is empty, absolute elsewhere, no possible path, or climbs out (also through a link).
    """
    problem = f"{str(name)!r} is not a name inside {root}: use a plain file name"
    try:
        top, resolved = root.resolve(), (root / name).resolve()
        resolved.exists()  # raises for a name that is too long
    except (ValueError, RuntimeError, OSError) as error:  # a NUL character, a lone surrogate; links in a circle
        raise PathError(problem) from error
    if not str(name).strip() or resolved == top or not resolved.is_relative_to(top):
        raise PathError(problem)
    return resolved


def safe_name(name: str) -> str:
    """A file name as typed by a person, made safe to create: last part only, no control or shell characters.

    Letters of any script are kept. Never empty, never hidden, at most 120 bytes, the extension kept.
    """
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    base = re.sub(r"[^\w.\- ()]", "_", base).lstrip(" .-").rstrip(" .")
    stem, dot, extension = base.rpartition(".")
    if not dot:
        stem, extension = base, ""
    suffix = f".{extension.strip()[:16].rstrip()}" if extension else ""
    room = NAME_MAX_BYTES - len(suffix.encode())
    return (stem.encode()[:room].decode(errors="ignore").strip() or "file") + suffix


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`; files that vanish meanwhile count nothing."""
    return sum(_size(path) for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def reason_of(error: OSError) -> str:
    """Why something could not be written, for the user."""
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space and try again"
    return error.strerror or str(error)
