"""New sets made from old ones. The old ones are never touched; a stopped or killed operation leaves nothing.

All of them stream: memory holds some rows, never a file. Rows go over as they are, columns that nobody uses included;
only `convert` and `merge` rewrite them. A row that cannot be read ends an operation with its number: mend it first.
"""

from studio.datasets.operations.arrange import sample, shuffle
from studio.datasets.operations.derive import deduplicate, duplicate
from studio.datasets.operations.divide import split
from studio.datasets.operations.reshape import convert, merge

__all__ = ["convert", "deduplicate", "duplicate", "merge", "sample", "shuffle", "split"]
