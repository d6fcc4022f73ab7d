"""What a model server has to do, read from its Prometheus metrics and written down once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from studio.errors import SeedbedError
from studio.runs import events
from studio.runs.events import Load
from studio.serving.client import Client

POLL_S = 1.0
ROWS_MAX = 16_000  # four hours of steady work, 5 MB
COUNTED = {
    "running": "num_requests_running",
    "waiting": "num_requests_waiting",
    "prompt_tokens": "prompt_tokens_total",
    "generation_tokens": "generation_tokens_total",
    "ttft_count": "time_to_first_token_seconds_count",
}
# only a server with a paged cache has these
PAGED = {
    "prefix_queries": "prefix_cache_queries_total",
    "prefix_hits": "prefix_cache_hits_total",
    "preemptions": "num_preemptions_total",
}
TTFT_SUM, KV_USED, CACHE = "time_to_first_token_seconds_sum", "kv_cache_usage_perc", "cache_config_info"
PREFIX = "vllm:"
NAMES = (*COUNTED.values(), *PAGED.values(), TTFT_SUM, KV_USED, CACHE)
WANTED = tuple(f"{PREFIX}{name}{end}" for name in NAMES for end in "{ ")


def parse(text: str, at: float | None = None) -> Load:
    """The text of /metrics as the load at the moment `at` (now). Several engines are added up."""
    samples = _samples(text)
    sums = {name: sum(sample.value for sample in found) for name, found in samples.items()}
    counted: dict[str, Any] = {key: int(sums.get(name, 0)) for key, name in COUNTED.items()}
    paged: dict[str, Any] = {key: int(sums[name]) if name in sums else None for key, name in PAGED.items()}
    return Load(
        **counted,
        **paged,
        **_cache(samples.get(CACHE, ())),
        kv_used=round(sums[KV_USED] / len(samples[KV_USED]), 4) if KV_USED in sums else None,
        ttft_sum_s=round(sums.get(TTFT_SUM, 0.0), 4),
        at=time.time() if at is None else at,
    )


class Meter:
    """Looks at a server once a second and writes what changes into the run's metrics.jsonl."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._path = folder / "metrics.jsonl"
        self._busy_at = time.monotonic()
        self._seen: Load | None = None
        self._held: Load | None = None
        self._is_quiet = False
        self._rows = 0

    @property
    def idle_s(self) -> float:
        """Seconds since a request last ran or waited. A server that cannot be asked counts as busy."""
        return time.monotonic() - self._busy_at

    async def follow(self) -> NoReturn:
        """Look on until cancelled."""
        while True:
            try:
                self.take(parse(await self._client.text("/metrics")))
            except (SeedbedError, ValueError):  # no answer, or none that is Prometheus'
                self._busy_at = time.monotonic()
            await asyncio.sleep(POLL_S)

    def take(self, load: Load) -> None:
        """Note one look. Of a quiet stretch the first and the last are written, so that the rates between
        neighbouring rows are right on both sides of it."""
        is_same = self._seen is not None and _what(load) == _what(self._seen)
        if not is_same or load.running or load.waiting:
            self._busy_at = time.monotonic()
        self._seen = load
        if is_same and self._is_quiet:
            self._held = load
            return
        if self._held:
            self._write(self._held)
        self._write(load)
        self._held, self._is_quiet = None, is_same

    def _write(self, load: Load) -> None:
        try:
            events.append(self._path, load)
            self._rows += 1
            if self._rows >= ROWS_MAX:
                self._rows = thin(self._path)
        except OSError:  # a full disk must not take down a server that answers
            return


def thin(path: Path) -> int:
    """Merge the older half of a metrics.jsonl in pairs, so that it stays small for ever. How many rows are left.

    The counters of a merged pair are the later row's, its gauges the higher ones: no peak is lost.
    """
    rows, _ = events.read(path)
    middle = len(rows) // 4 * 2
    pairs = zip(rows[0:middle:2], rows[1:middle:2], strict=True)
    kept = [*(_merged(*pair) for pair in pairs), *rows[middle:]]
    events.write(path, kept)
    return len(kept)


def _samples(text: str) -> dict[str, list[Sample]]:
    """By name without vLLM's prefix. The rest is left out first: a parser in Python takes its time for 1,000 lines."""
    lines = "\n".join(line for line in text.splitlines() if line.startswith(WANTED))
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix(PREFIX), []).append(sample)
    return found


def _cache(told: Sequence[Sample]) -> dict[str, Any]:
    """The blocks of the KV cache and the tokens in one."""
    labels = [sample.labels for sample in told]
    blocks = [int(label["num_gpu_blocks"]) for label in labels if label.get("num_gpu_blocks", "").isdecimal()]
    sizes = [int(label["block_size"]) for label in labels if label.get("block_size", "").isdecimal()]
    return {"kv_blocks": sum(blocks) if blocks else None, "block_tokens": sizes[0] if sizes else None}


def _what(load: Load) -> Load:
    return replace(load, at=0.0)


def _merged(older: dict[str, Any], newer: dict[str, Any]) -> dict[str, Any]:
    gauges = (key for key in ("running", "waiting", "kv_used") if newer[key] is not None)
    return newer | {key: max(older[key] or 0, newer[key]) for key in gauges}
