"""Whether GPU memory was given back, by what the driver said one moment after another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from studio.config.serve import ServeConfig
from studio.serving import release
from studio.serving.release import Release


def watched(before_gb: float, *readings: float) -> Release:
    """With the last reading for ever."""
    told: Iterator[float] = iter(readings)
    last = readings[-1]
    return asyncio.run(release.released(before_gb, lambda: next(told, last), lambda: [77, 12], within_s=0.5))


def test_memory_that_comes_back_after_a_moment() -> None:
    found = watched(0.5, 76.0, 40.0, 0.6)
    assert found.to_json() == {"gpu_freed": True, "before_gb": 0.5, "after_gb": 0.6}
    assert str(found) == "the GPU's memory is free again (0.6 GB in use)"


def test_memory_that_stays_taken_names_who_holds_it() -> None:
    found = watched(0.5, 76.0, 75.5)
    assert found.to_json() == {"gpu_freed": False, "before_gb": 0.5, "after_gb": 75.5, "pids": [12, 77]}
    assert str(found) == "75.0 GB more of the GPU's memory are in use than before the start, by process 12, 77"


def test_less_in_use_than_before_is_free() -> None:
    assert watched(30.0, 2.0).is_free


def test_nothing_is_said_without_a_gpu() -> None:
    watch = release.Watch(ServeConfig(devices="99"))
    assert asyncio.run(watch.release()) is None
