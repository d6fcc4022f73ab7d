"""Rows of a set replaced, deleted or added by hand, and the way back."""

from studio.datasets.edit.edits import (
    Edit,
    add_row,
    delete_rows,
    history,
    parse,
    raw,
    replace_row,
    undo,
    version,
)

__all__ = ["Edit", "add_row", "delete_rows", "history", "parse", "raw", "replace_row", "undo", "version"]
