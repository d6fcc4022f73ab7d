"""Benchmarks as runs: real processes answer, and what they leave is what was measured."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.config.bench import BenchConfig
from studio.files import read_json
from studio.runs import launchers, process
from studio.runs.run import Run, State
from studio.runs.store import Store

SHORT = {"prompt_tokens": (12,), "output_tokens": (6,), "requests_per_client": 2, "repeats": 1}
WAIT_S = 120.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A folder of runs; what still runs at the end is ended."""
    store = Store(tmp_path_factory.mktemp("saves"))
    yield store
    for run in store.list():
        run.stop_now()


@pytest.fixture(scope="module")
def finished(store: Store) -> Run:
    """The stand-in, generate in batches, and a checkpoint that is not there."""
    variants = ("huggingface", "./no/such/int8", "generate_batch")
    config = BenchConfig(variants=variants, concurrency=(1, 3), serve_options="threads=1", **SHORT)
    run = launchers.begin(store, config)
    wait_until(lambda: not run.is_active)
    return run


def test_every_variant_is_measured_under_every_load(finished: Run) -> None:
    assert finished.state is State.COMPLETED, finished.log.read_text()
    rows = read_json(finished.path / "results.json")["rows"]
    assert [(row["clients"], row["variant"]) for row in rows] == [
        (1, "huggingface"), (1, "generate_batch"), (3, "huggingface"), (3, "generate_batch"),
    ]  # fmt: skip
    assert [row["requests"] for row in rows] == [2, 2, 6, 6]
    for row in rows:
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"], rel=0.01)
        assert 0 < row["ttft_p50_ms"] <= row["ttft_p95_ms"] < 60_000
        assert row["memory_gb"] > 0.1


def test_all_variants_answer_the_same_number_of_tokens(finished: Run) -> None:
    rows = read_json(finished.path / "results.json")["rows"]
    for clients in (1, 3):
        assert len({row["tokens"] for row in rows if row["clients"] == clients}) == 1


def test_a_variant_that_cannot_be_had_is_told_and_the_next_one_measured(finished: Run) -> None:
    [(name, why)] = read_json(finished.path / "results.json")["failed"].items()
    assert name == "./no/such/int8"
    assert "no/such/int8" in why
    report = (finished.path / "report.md").read_text()
    assert "./no/such/int8 could not be measured" in report
    assert "| Transformers generate, static batch | 3 |" in report


def test_each_measurement_is_kept_by_itself(finished: Run) -> None:
    lines = [json.loads(line) for line in (finished.path / "measured.jsonl").read_text().splitlines()]
    assert [(line["variant"], line["clients"]) for line in lines] == [
        ("huggingface", 1), ("huggingface", 3), ("generate_batch", 1), ("generate_batch", 3),
    ]  # fmt: skip


def test_no_process_and_no_server_of_other_runs_is_left(finished: Run, store: Store) -> None:
    servers = Store(finished.path / "servers").list("serve")
    assert len(servers) == 2
    assert not any(process.of_run(run.path) for run in (*servers, finished))
    assert store.list("serve") == []


def test_a_stop_is_heeded_at_once_and_keeps_what_was_measured(store: Store) -> None:
    config = BenchConfig(
        variants="generate_single", concurrency=(1,), **{**SHORT, "repeats": 50, "output_tokens": (64,)}
    )
    run = launchers.begin(store, config)
    wait_until((run.path / "measured.jsonl").exists)
    begun = time.monotonic()
    run.stop()
    wait_until(lambda: not run.is_active)
    assert time.monotonic() - begun < 3
    assert run.state is State.STOPPED
    assert read_json(run.path / "results.json")["rows"]
    assert not process.of_run(run.path)


def test_a_benchmark_that_could_measure_nothing_has_failed(store: Store, tmp_path: Path) -> None:
    run = launchers.begin(store, BenchConfig(model_name_or_path=str(tmp_path / "gone"), variants="vllm"))
    wait_until(lambda: not run.is_active)
    assert run.state is State.FAILED
    assert "gone" in run.reason


@pytest.mark.vllm
def test_int8_is_made_of_the_model_and_measured(store: Store) -> None:
    run = launchers.begin(store, BenchConfig(variants="int8", concurrency=(2,), serve_options="threads=1", **SHORT))
    wait_until(lambda: not run.is_active)
    assert run.state is State.COMPLETED, run.log.read_text()
    [row] = read_json(run.path / "results.json")["rows"]
    assert (row["name"], row["requests"]) == ("vLLM, int8 (W8A8)", 4)
    [server] = Store(run.path / "servers").list("serve")
    assert "Int8ScaledMM" in server.log.read_text()  # the kernel that vLLM took
    assert not (run.path / "int8.part").exists()


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
