"""What the server counts, by vLLM's names. It has no paged cache, so it counts nothing of one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from studio.worker.stand_in.generation import Generation, Piece

LABELS = ("engine", "model_name")
SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)


class Metrics:
    """Counters of one server. `name`: the base model's."""

    def __init__(self, name: str, generation: Generation) -> None:
        self._registry = CollectorRegistry()
        self._values = {"engine": "0", "model_name": name}
        self._gauge("num_requests_running", "Requests being answered").set_function(lambda: generation.running)
        self._gauge("num_requests_waiting", "Requests waiting").set_function(lambda: generation.waiting)
        self._prompts = self._counter("prompt_tokens", "Tokens of prompts read")
        self._generated = self._counter("generation_tokens", "Tokens written")
        self._ends = Counter(
            "vllm:request_success", "Answers that came to an end", (*LABELS, "finished_reason"), registry=self._registry
        )
        self._first = Histogram(
            "vllm:time_to_first_token_seconds", "From request to first token", LABELS, buckets=SECONDS,
            registry=self._registry,
        ).labels(**self._values)  # fmt: skip

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)

    async def watched(
        self, pieces: AsyncGenerator[tuple[int, Piece], None], prompt_tokens: int
    ) -> AsyncGenerator[tuple[int, Piece], None]:
        """`pieces`, counted while they pass."""
        begun = time.perf_counter()
        started = set[int]()
        async with aclosing(pieces):
            async for number, piece in pieces:
                if piece.drawn:
                    self._generated.inc()
                if not started:
                    self._prompts.inc(prompt_tokens)
                if number not in started:
                    started.add(number)
                    self._first.observe(time.perf_counter() - begun)
                if piece.finish_reason:
                    self._ends.labels(**self._values, finished_reason=piece.finish_reason).inc()
                yield number, piece

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"vllm:{name}", help_text, LABELS, registry=self._registry).labels(**self._values)

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(f"vllm:{name}", help_text, LABELS, registry=self._registry).labels(**self._values)
