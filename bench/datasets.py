"""A file of a million conversations: registered, looked at, indexed, checked and counted in tokens. Prints one table.

    python -m bench.datasets [ROWS]

The file (1.05 GB for a million rows) is generated and removed again; where the disk has no room for two of them, a
tenth of the rows is taken. Each stage is a process of its own on one core. Memory is the highest
resident size (VmHWM) above that of the same process when it had imported what it needs.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics as stats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench._conversations import write_conversations

ROWS = 1_000_000
ROW_BYTES = 1050
NAME = "conversations"
PAGE_ROWS = 10
PAGES = 50
SAMPLED_ROWS = 20_000
ENCODED_ROWS = 8_000
CUTOFF_LEN = 2048
STOP_AFTER_S = 0.3
ENCODED_TIMES = 5
Rows = Iterator[tuple[str, str]]


def main(rows: int) -> int:
    """Generate, run every stage, print; the number of stages that broke."""
    if shutil.disk_usage(tempfile.gettempdir()).free < 3 * rows * ROW_BYTES:
        rows //= 10
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{NAME}.jsonl")
        write_conversations(source, rows)
        _print("file", f"{rows:,} rows, {source.stat().st_size / 1e9:.2f} GB; {os.cpu_count()} cores, one used")
        for stage in STAGES:
            broken += (
                subprocess.run([sys.executable, "-m", "bench.datasets", stage, folder], check=False).returncode != 0
            )
    return broken


def pages(folder: Path) -> Rows:
    """What the page of the studio does: no stage may take long or need much memory."""
    from studio.datasets import preview, upload
    from studio.datasets.index import indexed
    from studio.datasets.registry import Registry

    idle_mb, registry, source = _peak_mb(), Registry(folder / "data"), folder / f"{NAME}.jsonl"
    # an upload is a file of our own: it is linked, not copied
    seconds, _ = _timed(lambda: upload.accept(source, source.name, registry.data_dir, owned=True))
    first_s, _ = _timed(lambda: preview.page(registry, NAME, 0, PAGE_ROWS))
    yield "registered and first page, s (goal 1)", f"{seconds + first_s:.2f}, of which the page {first_s:.3f}"
    seconds, index = _timed(lambda: indexed(registry.file(NAME), registry.cache_dir))
    yield "index, s, MB/s", f"{seconds:.1f}, {_mb(registry.file(NAME)) / seconds:.0f}"
    jump = int(index.rows * 0.9)
    for name, start in (("pages forwards", 0), ("pages around row " + f"{jump:,}", jump)):
        times = [
            _timed(lambda at=start + number * PAGE_ROWS: preview.page(registry, NAME, at, PAGE_ROWS))[0]
            for number in range(PAGES)
        ]
        yield f"{name}, median, 95 %, ms (goal 50)", f"{stats.median(times) * 1000:.1f}, {_p95(times) * 1000:.1f}"
    yield "memory of all that above idle, MB (goal 60)", f"{_peak_mb() - idle_mb:.0f}"


def check(folder: Path) -> Rows:
    """The whole file, as a data run reads it."""
    from studio.datasets.checks import survey

    registry, idle_mb = _registry(folder), _peak_mb()
    path, entry = registry.file(NAME), registry.entry(NAME)
    before_s = time.process_time()
    seconds, (report, _) = _timed(lambda: survey(path, entry))
    cpu_s = time.process_time() - before_s  # on a busy machine the clock says more about the others
    figures = (
        f"{_mb(path) / cpu_s:.0f} ({_mb(path) / seconds:.0f} by the clock), {report.rows:,} rows in {seconds:.1f} s"
    )
    yield "full check, MB/s of a core's time (goal 100)", figures
    yield "memory of the check above idle, MB", f"{_peak_mb() - idle_mb:.0f}"


def stop(folder: Path) -> Rows:
    """How long a person waits for a check to stop."""
    from studio.datasets.checks import survey
    from studio.errors import Cancelled

    registry, asked = _registry(folder), time.monotonic() + STOP_AFTER_S
    try:
        survey(registry.file(NAME), registry.entry(NAME), cancelled=lambda: time.monotonic() > asked)
    except Cancelled:
        yield "asked to stop until the check has stopped, ms", f"{(time.monotonic() - asked) * 1000:.0f}"


def near_duplicates(folder: Path) -> Rows:
    """The check with its second, slow pass."""
    from studio.datasets.checks import survey

    registry, idle_mb = _registry(folder), _peak_mb()
    path, entry = registry.file(NAME), registry.entry(NAME)
    seconds, (report, _) = _timed(lambda: survey(path, entry, near_duplicates=True))
    yield "check with near-duplicates, s, rows/s", f"{seconds:.0f}, {report.rows / seconds:,.0f}"
    yield "memory of that above idle, MB", f"{_peak_mb() - idle_mb:.0f}"


def statistics(folder: Path) -> Rows:
    """Token statistics of a sample, in the process that a data run starts."""
    from studio.config.data import DataConfig
    from studio.worker.statistics import measure

    registry = _registry(folder)
    config = DataConfig(
        action="statistics", dataset=(NAME,), dataset_dir=str(registry.data_dir), model_name_or_path="seedling",
        measured_rows=SAMPLED_ROWS,
    )  # fmt: skip
    seconds, measured = _timed(lambda: measure(config, registry, lambda done, total: None, lambda: False))
    yield f"statistics of {measured.rows_read:,} rows, tokenizer loaded, s", f"{seconds:.1f}"


def tokens(folder: Path) -> Rows:
    """Masks against the tokenizer's own batch over the same texts."""
    from studio import models
    from studio.datasets.loading import load
    from studio.datasets.masking import Masking
    from studio.worker.encode import encode
    from studio.worker.tokenizer import find
    from studio.worker.tokenizer import load as load_tokenizer

    tokenizer = load_tokenizer(find(models.BUNDLED), trust_remote_code=False)
    rows = list(load(_registry(folder), NAME, limit=ENCODED_ROWS))
    texts = [tokenizer.apply_chat_template(_chat(row), tokenize=False) for _, row in rows]
    ways: dict[str, Callable[[], Any]] = {
        "masks": lambda: list(encode(rows, tokenizer, Masking(CUTOFF_LEN))),
        "batch": lambda: tokenizer(texts, add_special_tokens=False),
        "batch with offsets": lambda: tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True),
    }
    # in turns, so that a busy moment hits all of them
    times = [{way: _timed(work)[0] for way, work in ways.items()} for _ in range(ENCODED_TIMES)]
    best = {way: min(each[way] for each in times) for way in ways}
    shares = " and ".join(f"{best[way] / best['masks']:.0%} of its {way}" for way in list(ways)[1:])
    cores = len(os.sched_getaffinity(0))
    yield (
        f"tokenising with masks, {cores} of {os.cpu_count()} cores, rows/s (goal 90 %)",
        f"{len(rows) / best['masks']:,.0f}, {shares}",
    )


def tokens_on_two(folder: Path) -> Rows:
    """The same on two cores, where templates can be filled in on one while the other tokenises."""
    return tokens(folder)


STAGES: dict[str, Callable[[Path], Rows]] = {
    stage.__name__: stage for stage in (pages, check, stop, near_duplicates, statistics, tokens, tokens_on_two)
}


def _registry(folder: Path) -> Any:
    from studio.datasets.registry import Registry

    return Registry(folder / "data")


def _chat(row: Any) -> list[dict[str, Any]]:
    from studio.datasets.formats import chat

    return chat(row.messages)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by the clock, and the value."""
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


def _p95(times: list[float]) -> float:
    return sorted(times)[int(0.95 * len(times))]


def _mb(path: Path) -> float:
    return path.stat().st_size / 1e6


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _print(name: str, value: str) -> None:
    print(f"{name:<70} {value}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in STAGES:
        cores = 2 if sys.argv[1] == tokens_on_two.__name__ else 1
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
        for line in STAGES[sys.argv[1]](Path(sys.argv[2])):
            _print(*line)
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else ROWS))
