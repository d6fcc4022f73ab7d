"""A new set in which some of what a check found is put right. The old file is never changed."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from studio.datasets import incoming
from studio.datasets.checks import mends
from studio.datasets.checks.content import alone
from studio.datasets.checks.duplicates import Places, hash_of, repeats
from studio.datasets.checks.mends import Mend
from studio.datasets.checks.near_duplicates import near_rows
from studio.datasets.checks.walk import walk
from studio.datasets.entry import Entry
from studio.datasets.loading import Fault
from studio.datasets.operations.sources import derived, file_name
from studio.datasets.pace import Asked, FilePace, Progress, in_turns
from studio.datasets.reading import Record, rows
from studio.datasets.registry import Registry
from studio.datasets.writing import line_of
from studio.errors import DatasetError, RowError


class Repair(NamedTuple):
    """What a button says, and what is done to each row in turn (None: it takes all rows to tell)."""

    en: str
    zh: str
    begin: Callable[[Entry], Mend] | None


# in the order in which they are done: texts first, then turns, then what is left out
REPAIRS: dict[str, Repair] = {
    "fix_mojibake": Repair("Decode garbled text again", "修复乱码", mends.fix_mojibake),
    "strip_control": Repair("Remove control characters", "去除控制字符", mends.strip_control),
    "strip_invisible": Repair("Remove invisible characters", "去除不可见字符", mends.strip_invisible),
    "trim_answers": Repair("Trim space around answers", "修剪回答首尾空白", mends.trim_answers),
    "keep_last_key": Repair("Keep the last of doubled fields", "重复字段保留最后一个", mends.keep_last_key),
    "merge_turns": Repair("Merge turns of one speaker in a row", "合并同一方的连续发言", mends.merge_turns),
    "drop_open_turns": Repair("Drop turns after the last answer", "去掉最后回答之后的轮次", mends.drop_open_turns),
    "drop_special_tokens": Repair(
        "Leave out rows with special tokens", "去掉含特殊标记的行", mends.drop_special_tokens
    ),
    "drop_damaged": Repair("Leave out rows with lost characters", "去掉含丢失字符的行", mends.drop_damaged),
    "drop_faulty": Repair("Leave out rows that cannot be used", "去掉无法使用的行", mends.drop_faulty),
    "drop_duplicates": Repair("Leave out repeated rows", "去掉重复行", None),
    "drop_near_duplicates": Repair("Leave out nearly repeated rows", "去掉近似重复行", None),
}


def repair(
    registry: Registry,
    name: str,
    repairs: Sequence[str],
    output_name: str | None = None,
    *,
    threshold: float = 0.85,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> tuple[Entry, dict[str, int]]:
    """Write a set anew as JSON lines with `repairs` (names in REPAIRS) done, and register it as `output_name`.

    Returns the new entry, which is read as the old one, and how many rows each repair changed or left out.

    Raises:
        DatasetError: an unknown repair, no such set, a row that cannot be read and may not be left out, or no row left.
        Cancelled: `cancelled` said so; nothing is left behind.
    """
    if unknown := [each for each in repairs if each not in REPAIRS]:
        raise DatasetError(f"there is no repair {', '.join(unknown)}; there are {', '.join(REPAIRS)}")
    entry, path = registry.entry(name), registry.file(name)
    begun = {each: begin(entry) for each, (_, _, begin) in REPAIRS.items() if begin and each in repairs}
    over_all = [each for each in _OVER_ALL if each in repairs]
    turns = iter(list(in_turns(progress, 1 + len(over_all))))
    counts = Counter(dict.fromkeys(repairs, 0))
    new_name = output_name or f"{name}-repaired"
    with incoming.workshop(registry.data_dir, new_name) as folder:
        made = folder / file_name(new_name)
        with open(made, "xb") as file:
            file.writelines(map(line_of, _mended(path, begun, counts, FilePace(path, next(turns), cancelled))))
        for each in over_all:
            again = _OVER_ALL[each](made, entry, threshold, next(turns), cancelled)
            counts[each] = len(again)
            _leave_out(made, again)
        if not made.stat().st_size:
            raise DatasetError(f"no row of {name!r} would be left: {', '.join(repairs)} would leave out every one")
        (added,) = incoming.publish(registry, [(made, derived(entry, new_name, "repair", [name], **counts))])
    return added, dict(counts)


def _mended(path: Path, begun: Mapping[str, Mend], counts: Counter[str], pace: FilePace) -> Iterator[Record]:
    for mark, record in rows(path, thorough="keep_last_key" in begun):
        pace.at(mark)
        if not isinstance(record, RowError):
            mended = _through(mark.row, record, begun, counts)
            if mended is not None:
                yield mended
        elif "drop_faulty" in begun:
            counts["drop_faulty"] += 1
        else:
            raise record


def _through(row: int, record: Record, begun: Mapping[str, Mend], counts: Counter[str]) -> Record | None:
    for name, mend in begun.items():
        mended = mend(row, record)
        if mended is not record:
            counts[name] += 1
        if mended is None:
            return None
        record = mended
    return record


def _repeating(
    path: Path, entry: Entry, threshold: float, progress: Progress | None, cancelled: Asked | None
) -> Places:
    hashes = array("q")
    for mark, _, found in walk(path, entry, progress, cancelled):
        hashes.append(hash_of(alone(mark.row) if isinstance(found, Fault) else found))
    return repeats(hashes)[0] + 1


def _nearly_repeating(
    path: Path, entry: Entry, threshold: float, progress: Progress | None, cancelled: Asked | None
) -> Places:
    return near_rows(path, entry, threshold, progress, cancelled)[0]


_OVER_ALL = {"drop_duplicates": _repeating, "drop_near_duplicates": _nearly_repeating}


def _leave_out(path: Path, rows: Places) -> None:
    """Take lines out of a file, by their numbers."""
    kept = path.with_name(f"kept-{path.name}")
    left_out = np.append(rows, -1)  # which no line is
    with open(path, "rb") as reader, open(kept, "xb") as writer:
        place = 0
        for number, line in enumerate(reader, 1):
            if number == left_out[place]:
                place += 1
            else:
                writer.write(line)
    kept.replace(path)
