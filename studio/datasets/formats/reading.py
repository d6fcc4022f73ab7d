"""A record of any shape as the canonical value that it stands for.

A row that does not fit raises RowError: which field, what stands there, what was expected. Nothing is added to a
row: no invented system prompt, no reordering, no filling in of empty turns.
"""

from __future__ import annotations

from collections.abc import Callable

from studio.datasets.entry import Entry
from studio.datasets.formats.alpaca import from_alpaca
from studio.datasets.formats.canonical import Row
from studio.datasets.formats.fields import Misfit, Record
from studio.datasets.formats.sharegpt import from_sharegpt
from studio.errors import RowError


def convert(entry: Entry, row: int, record: Record) -> Row:
    """The canonical value of `record`, the `row`-th of its file, read as `entry` says.

    Raises:
        RowError: it does not fit.
    """
    try:
        return FORMATS[entry.formatting](entry, record)
    except Misfit as misfit:
        raise RowError(row, str(misfit), misfit.code) from misfit
    except RecursionError as error:
        raise RowError(row, "it is nested too deeply", "too_deep") from error


FORMATS: dict[str, Callable[[Entry, Record], Row]] = {
    "alpaca": from_alpaca,
    "sharegpt": from_sharegpt,
    "openai": from_sharegpt,
}
