"""The rows of a data file of any kind and size, one at a time, with the place of each."""

from studio.datasets.reading.bytestream import BEGIN, ROW_MAX_BYTES, Mark, open_text
from studio.datasets.reading.kinds import READERS, Record, format_name, marks, rows, stem_of

__all__ = [
    "BEGIN",
    "READERS",
    "ROW_MAX_BYTES",
    "Mark",
    "Record",
    "format_name",
    "marks",
    "open_text",
    "rows",
    "stem_of",
]
