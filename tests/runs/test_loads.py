"""Rates between the rows of a server's metrics: all at once, and what is new, give the same curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.files import append_line
from studio.runs import curves, events, loads

ROW: dict[str, Any] = {
    "type": "load", "running": 0, "waiting": 0, "kv_used": 0.5, "kv_blocks": 85, "block_tokens": 128,
    "prompt_tokens": 0, "generation_tokens": 0, "prefix_queries": 0, "prefix_hits": 0, "ttft_sum_s": 0.0,
    "ttft_count": 0, "preemptions": 0, "at": 0.0,
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def write(path: Path, *rows: dict[str, Any]) -> None:
    for row in rows:
        append_line(path, ROW | row)


def test_figures_are_of_the_stretch_between_two_rows(path: Path) -> None:
    write(
        path,
        {"at": 10.0},
        {
            "at": 12.0, "generation_tokens": 60, "prompt_tokens": 300, "prefix_queries": 300, "prefix_hits": 75,
            "ttft_sum_s": 0.6, "ttft_count": 3, "running": 2, "waiting": 1,
        },
        {"at": 13.0, "generation_tokens": 60, "prompt_tokens": 300, "prefix_queries": 300, "prefix_hits": 75,
         "ttft_sum_s": 0.6, "ttft_count": 3},
    )  # fmt: skip
    told = loads.overview(path)
    assert {name: values for name, (_, values) in told["series"].items()} == {
        "generated_per_s": [30, 0],
        "read_per_s": [150, 0],
        "ttft_s": [0.2, None],
        "running": [2, 0],
        "waiting": [1, 0],
        "blocks": [42, 42],
        "hit_share": [0.25, None],
    }
    assert told["series"]["running"][0] == [12, 13]
    assert told["last"]["at"] == 13


def test_what_is_new_continues_what_was_read(path: Path) -> None:
    write(path, {"at": 1.0}, {"at": 2.0, "generation_tokens": 5})
    first = loads.overview(path)
    nothing = loads.since(path, first["cursor"])
    assert nothing == {"cursor": first["cursor"], "series": {}, "last": None, "anew": False}
    write(path, {"at": 3.0, "generation_tokens": 25})
    new = loads.since(path, first["cursor"])
    assert new["series"]["generated_per_s"] == [[3.0], [20.0]]
    assert loads.overview(path)["series"]["generated_per_s"] == [[2, 3], [5, 20]]


def test_one_row_has_no_rate_but_is_told(path: Path) -> None:
    assert loads.overview(path) == {"cursor": None, "series": {}, "last": None, "anew": True}
    write(path, {"at": 1.0, "running": 1})
    told = loads.overview(path)
    assert told["series"] == {}
    assert told["last"]["running"] == 1


@pytest.mark.parametrize("left", [10, 90])
def test_a_file_written_anew_is_read_from_its_beginning(path: Path, left: int) -> None:
    write(path, *({"at": float(second)} for second in range(50)))
    cursor = loads.overview(path)["cursor"]
    events.write(path, [ROW | {"at": second + 0.25} for second in range(left)])  # shorter, or grown beyond the cursor
    told = loads.since(path, cursor)
    assert told == loads.overview(path)
    assert (told["anew"], len(told["series"]["running"][0])) == (True, left - 1)


def test_a_server_without_a_paged_cache_has_no_such_curves(path: Path) -> None:
    plain = {"kv_used": None, "kv_blocks": None, "prefix_queries": None, "prefix_hits": None}
    write(path, {"at": 1.0, **plain}, {"at": 2.0, **plain})
    assert set(loads.overview(path)["series"]) == {"generated_per_s", "read_per_s", "running", "waiting"}


def test_a_counter_that_began_anew_is_a_gap(path: Path) -> None:
    write(path, {"at": 1.0, "generation_tokens": 900}, {"at": 2.0}, {"at": 3.0, "generation_tokens": 7})
    assert loads.overview(path)["series"]["generated_per_s"][1] == [None, 7]


def test_a_long_history_is_thinned_and_keeps_its_peak(path: Path) -> None:
    rows = [ROW | {"at": float(second), "running": 9 if second == 7777 else 1} for second in range(16_000)]
    events.write(path, rows)
    seconds, running = loads.overview(path)["series"]["running"]
    assert len(seconds) <= 1.3 * curves.BUDGET
    assert running[seconds.index(7777)] == 9
