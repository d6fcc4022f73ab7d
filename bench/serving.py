"""The model server: where its start goes, first token, tokens per second, stop, memory.

    python -m bench.serving [MODEL] [ADAPTER]

MODEL is seedling unless given. Without an ADAPTER folder, an untrained one of rank 8 is made: the arithmetic is the
same. `stop` is from the request to the last process gone; memory is proportional (PSS), so shared pages count once.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from studio import models
from studio.config.bench import BenchConfig
from studio.runs import process
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import servers, speaker, voices
from studio.serving.benchmark.course import Course
from studio.serving.benchmark.figures import rows
from studio.serving.benchmark.report import name_of
from studio.serving.client import Client, Delta, Done, Sampling, Server

TOKENS = 64
ROUNDS = 3
CONCURRENT = (1, 8)
MANY = 32
TURN = ({"role": "user", "content": "Tell me a short story about a fox, a lake and a lost key, as slowly as you can."},)
# hot, so that answers run to their full length
SAMPLING = Sampling(temperature=2.0, max_tokens=TOKENS)
MAKE_ADAPTER = """
import sys
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), config).save_pretrained(sys.argv[2])
"""


def main(model: str = "seedling", adapter: str | None = None) -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        table = [*measure(Path(folder), models.resolve(model), adapter), *ratio_rows(Path(folder), model)]
    print(f"\n{'model server':<58}{'measured':>16}")
    for name, measured in table:
        print(f"{name:<58}{measured:>16}")


def measure(folder: Path, model: str, adapter: str | None) -> Iterator[tuple[str, str]]:
    """Rows of the table: what, and its figure."""
    path = adapter or make_adapter(model, folder / "adapter")
    begun = time.perf_counter()
    run = speaker.start(Store(folder / "saves"), model, [speaker.speaker(path)])
    try:
        asyncio.run(until_ready(run))
        yield "start to ready, s", f"{time.perf_counter() - begun:.1f}"
        startup = json.loads((run.path / "startup.json").read_text())
        yield from ((f"  {name}", f"{seconds:.1f}") for name, seconds in startup["seconds"].items())
        yield from speed_rows(run, path)
        yield "memory of all processes, MB", f"{memory_mb(run):.0f}"
    finally:
        yield "stop to the last process gone, s", f"{stop_s(run):.2f}"


def speed_rows(run: Run, adapter: str) -> Iterator[tuple[str, str]]:
    """First token and throughput, for base and adapter, alone and among others."""
    begun = time.perf_counter()
    voice = asyncio.run(voices.open_voice(Store(run.path.parent), adapter))
    server, name = voice.server, voice.model
    yield "load an adapter and prove it, s", f"{time.perf_counter() - begun:.2f}"
    while run.server["checks"][name]["reference"] == "pending":  # Transformers takes cores of its own
        time.sleep(0.1)
    yield "until Transformers has confirmed it, s", f"{time.perf_counter() - begun:.1f}"
    for title, model in (("base", servers.endpoints(Store(run.path.parent))[0].served[0].name), ("adapter", name)):
        asyncio.run(volley(server, model, 1))
        for count in CONCURRENT:
            readings = [asyncio.run(volley(server, model, count)) for _ in range(ROUNDS)]
            first, rate = (statistics.median(column) for column in zip(*readings, strict=True))
            yield f"{title}, {count} at once: first token, ms", f"{1000 * first:.0f}"
            yield f"{title}, {count} at once: tokens/s together", f"{rate:.0f}"


def ratio_rows(folder: Path, model: str) -> Iterator[tuple[str, str]]:
    """vLLM against Transformers' generate: the same model, requests and tokens, from 32 clients at once."""
    for spread, lengths in ((0.0, "equal lengths"), (0.5, "lengths ± 50%")):
        config = BenchConfig(model_name_or_path=model, concurrency=(MANY,), length_spread=spread, requests_per_client=2)
        course = Course(config, folder / f"bench-{spread}", lambda *progress: None)
        course.folder.mkdir()
        asyncio.run(course.go())
        found = {row.measured.variant: row.measured.tokens_per_s for row in rows(course.measured)}
        for variant, speed in found.items():
            yield f"{MANY} at once, {lengths}: {name_of(variant)}, tokens/s", f"{speed:.0f}"
        for variant in list(found)[1:]:
            yield f"  vLLM / {name_of(variant)}", f"{found['vllm'] / found[variant]:.2f}"


async def volley(server: Server, model: str, count: int) -> tuple[float, float]:
    """Ask `count` times at once: seconds to the first token (median), tokens per second of all together."""
    begun = time.perf_counter()
    async with Client(server) as client:
        answers = await asyncio.gather(*(answer(client, model) for _ in range(count)))
    seconds = time.perf_counter() - begun
    firsts = [done.ttft_s for done in answers if done.ttft_s is not None]
    return statistics.median(firsts), sum(done.completion_tokens for done in answers) / seconds


async def answer(client: Client, model: str) -> Done:
    """The figures of one answer."""
    events: list[Delta | Done] = [event async for event in client.stream_chat(model, TURN, SAMPLING)]
    done = events[-1]
    assert isinstance(done, Done)
    return done


async def until_ready(run: Run) -> None:
    """Wait for the server; its failure ends the benchmark."""
    async for _ in servers.starting(run):
        pass


def stop_s(run: Run) -> float:
    """Ask the server to stop, and wait for its last process."""
    begun = time.perf_counter()
    run.stop()
    while process.of_run(run.path):
        time.sleep(0.02)
    return time.perf_counter() - begun


def memory_mb(run: Run) -> float:
    """Memory of the server's processes, each shared page counted once."""
    return sum(member.memory_full_info().pss for member in process.of_run(run.path)) / 1e6


def make_adapter(model: str, folder: Path) -> str:
    """An adapter with random weights."""
    subprocess.run([sys.executable, "-c", MAKE_ADAPTER, model, str(folder)], check=True, capture_output=True)
    return str(folder)


if __name__ == "__main__":
    main(*sys.argv[1:3])
