"""What a server tells of its load is read as it is; a run's metrics stay small and their rates right."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.runs import events, loads
from studio.runs.events import Load
from studio.serving import metrics
from studio.serving.client import Client, Sampling, Server
from studio.serving.metrics import Meter, parse
from studio.serving.servers import Endpoint
from tests.serving.conftest import answer

# what vLLM 0.32 on a CPU told after some questions
TOLD = Path(__file__).with_name("metrics.txt").read_text()
NOBODY = Server("http://127.0.0.1:9")
LOAD = parse(TOLD, at=100.0)


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    return Meter(Client(NOBODY), tmp_path)


def rows(folder: Path) -> list[dict[str, Any]]:
    return events.read(folder / "metrics.jsonl")[0]


def later(seconds: float, **changed: Any) -> Load:
    return replace(LOAD, at=LOAD.at + seconds, **changed)


def test_all_figures_of_vllm_are_read() -> None:
    assert Load(
        running=0, waiting=0, kv_used=0.0, kv_blocks=85, block_tokens=128, prompt_tokens=1008, generation_tokens=384,
        prefix_queries=1008, prefix_hits=640, ttft_sum_s=1.067, ttft_count=18, preemptions=0, at=100.0,
    ) == LOAD  # fmt: skip


def test_engines_are_added_up() -> None:
    second = TOLD.replace('engine="0"', 'engine="1"').replace("kv_cache_usage_perc{", "kv_cache_usage_perc{x='1',")
    both = parse(TOLD + "\n".join(line for line in second.splitlines() if line.startswith("vllm:num")))
    assert both.generation_tokens == 384
    line = 'vllm:kv_cache_usage_perc{engine="1"} 0.5\nvllm:num_requests_running{engine="1"} 3.0\n'
    both = parse(TOLD + line)
    assert (both.kv_used, both.running) == (0.25, 3)


def test_what_a_server_without_a_paged_cache_does_not_tell_is_none() -> None:
    paged = ("kv_cache", "prefix_cache", "cache_config", "preemptions")
    plain = parse("\n".join(line for line in TOLD.splitlines() if not any(name in line for name in paged)))
    assert plain.kv_used is plain.kv_blocks is plain.prefix_queries is plain.prefix_hits is plain.preemptions is None
    assert plain.prompt_tokens == 1008


def test_another_servers_text_is_an_idle_load() -> None:
    assert parse("<html>not found</html>").running == 0


def test_of_a_quiet_stretch_the_first_and_the_last_row_are_written(tmp_path: Path, meter: Meter) -> None:
    for second in range(60):
        meter.take(later(second))
    meter.take(later(60, generation_tokens=394))
    assert [row["at"] - LOAD.at for row in rows(tmp_path)] == [0, 1, 59, 60]
    rate = loads.overview(tmp_path / "metrics.jsonl")["series"]["generated_per_s"]
    assert rate[1] == [0, 0, 10]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(3.0)` sets the seconds that the meter reads."""

    def clock(seconds: float) -> None:
        monkeypatch.setattr(metrics.time, "monotonic", lambda: seconds)

    clock(0.0)
    return clock


def test_idleness_ends_with_a_request_and_with_a_counter(clock: Callable[[float], None], meter: Meter) -> None:
    meter.take(LOAD)
    clock(5.0)
    meter.take(later(5))
    assert meter.idle_s == 5
    meter.take(later(6, generation_tokens=400))
    assert meter.idle_s == 0
    clock(8.0)
    meter.take(later(8, generation_tokens=400, running=1))
    assert meter.idle_s == 0
    clock(9.0)
    meter.take(later(9, generation_tokens=400, running=1))  # a long prompt: it runs, and no counter moves
    assert meter.idle_s == 0


@pytest.mark.parametrize("text", [None, "vllm:num_requests_running{ nonsense", "vllm:num_requests_running NaN"])
def test_a_server_that_cannot_be_asked_is_not_idle(tmp_path: Path, text: str | None) -> None:
    class Told(Client):
        async def text(self, path: str) -> str:
            return await super().text(path) if text is None else text

    async def look_on() -> tuple[float, float]:
        async with Told(NOBODY) as client:
            meter = Meter(client, tmp_path)
            meter._busy_at -= 3600
            before = meter.idle_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(meter.follow(), 0.5)
            return before, meter.idle_s

    before, after = asyncio.run(look_on())
    assert before >= 3600
    assert after < 60
    assert not rows(tmp_path)


def test_the_file_stays_small_and_loses_no_token_and_no_peak(
    tmp_path: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "ROWS_MAX", 100)
    for second in range(1000):
        meter.take(later(second, generation_tokens=384 + 10 * second, running=8 if second == 301 else 1))
    kept = rows(tmp_path)
    assert len(kept) <= 100
    assert max(row["running"] for row in kept) == 8
    seconds, rates = loads.overview(tmp_path / "metrics.jsonl")["series"]["generated_per_s"]
    assert set(rates) == {10}
    assert seconds == sorted(seconds)


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()  # what cannot be opened for writing stands for it
    Meter(Client(NOBODY), tmp_path).take(LOAD)


@pytest.mark.vllm
def test_a_real_servers_work_is_counted(endpoint: Endpoint, tmp_path: Path) -> None:
    async def work() -> None:
        async with Client(endpoint.server) as client:
            meter = Meter(client, tmp_path)
            meter.take(parse(await client.text("/metrics")))
            watching = asyncio.create_task(meter.follow())
            name = endpoint.served[0].name
            long = Sampling(temperature=0.0, max_tokens=300)
            questions = (answer(endpoint.server, name, "Tell me of the sea. " * 20, long) for _ in range(4))
            await asyncio.gather(*questions)
            await asyncio.sleep(1.2)
            watching.cancel()

    asyncio.run(work())
    told = loads.overview(tmp_path / "metrics.jsonl")
    first, last = rows(tmp_path)[0], told["last"]
    assert last["ttft_count"] - first["ttft_count"] == 4
    assert last["generation_tokens"] > first["generation_tokens"]
    assert last["kv_blocks"] > 10
    assert max(told["series"]["generated_per_s"][1]) > 10
    assert max(value for value in told["series"]["hit_share"][1] if value is not None) > 0.3  # the same prompt
