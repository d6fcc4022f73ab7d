"""Rows that repeat an earlier row, found by 64-bit hashes of what they say: 8 bytes a row, whatever its length."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from studio.datasets.checks.content import Content

Places = npt.NDArray[np.int64]


def hash_of(content: Content) -> int:
    """Equal for equal content; that any two of a million different rows share one has a chance of 1 in 30 million."""
    return hash((content[0], *content[1]))


def repeats(hashes: array[int]) -> tuple[Places, Places]:
    """The places of hashes that stood before, in order, and for each the first place of that hash."""
    order, later, starts = runs(np.frombuffer(hashes, np.int64))
    in_order = np.argsort(order[later])
    return order[later][in_order], order[starts][in_order]


def runs(values: npt.NDArray[Any]) -> tuple[Places, Places, Places]:
    """Places of equal values side by side: the places, which positions in that repeat the one before, and for each of
    these the position where its run of equal values begins."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.ones(len(values), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    del ordered  # a million rows shall not need more than 40 MB
    later, firsts = np.flatnonzero(~begins), np.flatnonzero(begins)
    return order, later, firsts[np.searchsorted(firsts, later) - 1]


def largest(hashes: array[int]) -> tuple[int, Places]:
    """How often the most frequent of `hashes` stands there, and its places."""
    values = np.frombuffer(hashes, np.int64)
    distinct, counts = np.unique(values, return_counts=True)
    if not counts.size:
        return 0, np.zeros(0, np.int64)
    return int(counts.max()), np.flatnonzero(values == distinct[counts.argmax()])
