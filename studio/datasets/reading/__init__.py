"""The rows of a data file of any kind and size, one at a time, with the place of each.

Kinds: json, jsonl, ndjson, csv, tsv, txt (also .gz and .zst), parquet, arrow, xlsx, and folders of one of them.
"""

from studio.datasets.reading.bytestream import open_text
from studio.datasets.reading.extent import Extent
from studio.datasets.reading.kinds import READERS, Parse, format_name, packed_suffix, stem_of
from studio.datasets.reading.mark import BEGIN, ROW_MAX_BYTES, Mark, Record, Unpassable, duplicate_keys
from studio.datasets.reading.packing import PACKED
from studio.datasets.reading.sheet import other_sheets
from studio.datasets.reading.stream import excerpt, files_of, marks, rows, unpacked_bytes, unparsed

__all__ = [
    "BEGIN",
    "PACKED",
    "READERS",
    "ROW_MAX_BYTES",
    "Extent",
    "Mark",
    "Parse",
    "Record",
    "Unpassable",
    "duplicate_keys",
    "excerpt",
    "files_of",
    "format_name",
    "marks",
    "open_text",
    "other_sheets",
    "packed_suffix",
    "rows",
    "stem_of",
    "unpacked_bytes",
    "unparsed",
]
