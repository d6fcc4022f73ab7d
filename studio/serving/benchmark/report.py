"""What a benchmark leaves behind: results.json for programs, report.md for people."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from studio.config.bench import GENERATE, INT8, BenchConfig
from studio.errors import ServingError
from studio.files import write_json, write_text
from studio.machine import chosen
from studio.models import display_name
from studio.serving import installed
from studio.serving.benchmark.figures import Measured, Row, rows

NAMES = {
    "vllm": "vLLM",
    "huggingface": "Transformers server",
    INT8: "vLLM, int8 (W8A8)",
    **{name: f"Transformers generate, {how}" for name, how in GENERATE.items()},
}
REFERENCE = "vllm"
NO_ADAPTERS = (
    "on a CPU vLLM takes no adapters beside it. The other vLLM variants are ready for them, which costs some speed: "
    "part of the difference is that."
)
HEADS = (
    "who answers", "clients", "tokens/s", "lowest to highest", "first token p50 / p95, ms",
    "between tokens p50 / p95, ms", "memory, GB", "GPU, GB", "KV cache used",
)  # fmt: skip


def write(folder: Path, config: BenchConfig, measured: Sequence[Measured], failed: Mapping[str, str]) -> None:
    """Both files, from what was measured so far."""
    told = rows(measured)
    write_json(folder / "results.json", results(config, told, failed))
    write_text(folder / "report.md", text(config, told, failed))


def results(config: BenchConfig, told: Sequence[Row], failed: Mapping[str, str]) -> dict[str, Any]:
    """The value of results.json."""
    return {
        "model": display_name(config.model_name_or_path),
        "machine": machine(),
        "rows": [{"name": name_of(row.measured.variant), **row.to_json()} for row in told],
        "ratios": ratios(told),
        "failed": {name_of(name): why for name, why in failed.items()},
    }


def result(measured: Sequence[Measured], failed: Mapping[str, str]) -> dict[str, Any]:
    """The figures for result.json: tokens per second at the most clients.

    Raises:
        ServingError: nothing could be measured.
    """
    if not measured:
        raise ServingError("; ".join(f"{name_of(name)}: {why}" for name, why in failed.items()))
    told = rows(measured)
    most = max(row.measured.clients for row in told)
    best = {row.measured.variant: row.measured.tokens_per_s for row in told if row.measured.clients == most}
    speeds = {f"{name_of(name)}, {most} at once, tokens/s": speed for name, speed in best.items()}
    return {**speeds, "not measured": ", ".join(map(name_of, failed))}


def ratios(told: Sequence[Row]) -> list[dict[str, Any]]:
    """How many times as fast as each other way vLLM answered, by load."""
    by_case: dict[tuple[int, int, int], dict[str, float]] = {}
    for row in told:
        case = (row.measured.prompt_tokens, row.measured.output_tokens, row.measured.clients)
        by_case.setdefault(case, {})[row.measured.variant] = row.measured.tokens_per_s
    return [
        {"prompt_tokens": case[0], "output_tokens": case[1], "clients": case[2], "name": name_of(name), "ratio": ratio}
        for case, speeds in by_case.items()
        if REFERENCE in speeds
        for name, speed in speeds.items()
        if name != REFERENCE and (ratio := round(speeds[REFERENCE] / speed, 2))
    ]


def text(config: BenchConfig, told: Sequence[Row], failed: Mapping[str, str]) -> str:
    """The value of report.md."""
    return "\n".join(_lines(config, told, failed)) + "\n"


def machine() -> str:
    """Where it was measured: the GPU first, where the servers run on one."""
    memory = psutil.virtual_memory().total / 1e9
    processor = f"{_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GB"
    gpus = [f"{gpu.name}, {gpu.total / 1e9:.0f} GB" for gpu in chosen(None)] if _serves_on_gpu() else []
    return "; ".join([*gpus, processor])


def name_of(variant: str) -> str:
    """What people call a way of answering."""
    return NAMES.get(variant) or (variant if "/" in variant else f"vLLM, {variant}")


def _lines(config: BenchConfig, told: Sequence[Row], failed: Mapping[str, str]) -> Iterator[str]:
    yield from (f"# {display_name(config.model_name_or_path)}: how fast it answers", "", f"{machine()}.", "")
    yield from (_conditions(config, told), "")
    for prompt, output in dict.fromkeys((row.measured.prompt_tokens, row.measured.output_tokens) for row in told):
        here = [row for row in told if (row.measured.prompt_tokens, row.measured.output_tokens) == (prompt, output)]
        yield from (f"## {prompt} tokens of prompt, {output} of answer", "")
        yield from _table(HEADS, [_cells(row) for row in here])
        yield ""
        if found := ratios(here):
            yield from _table(("vLLM, times as fast as", "clients", "ratio"), [_ratio(each) for each in found])
            yield ""
    if any(row.measured.variant == INT8 and row.measured.gpu_gb is None for row in told):
        yield f"- {name_of(INT8)}: {NO_ADAPTERS}"
    yield from (f"- {name_of(name)} could not be measured: {why}" for name, why in failed.items())


def _conditions(config: BenchConfig, told: Sequence[Row]) -> str:
    spread = f", ± {config.length_spread:.0%} in length" if config.length_spread else ", all equally long"
    return (
        f"Greedy answers to random prompts{spread}; {config.requests_per_client} requests a client, the median of "
        f"{config.repeats} measurements, each of about {config.limit_s:g} s at most. Other programs kept "
        f"{_range([row.measured.others_cores for row in told])} of the {psutil.cpu_count()} cores busy meanwhile."
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}" if values else "an unknown number"


def _cells(row: Row) -> tuple[str, ...]:
    found = row.measured
    used = f"{found.kv_used:.1%} of {found.kv_blocks} blocks" if found.kv_used is not None else "—"
    return (
        name_of(found.variant), str(found.clients), f"{found.tokens_per_s:,.0f}",
        f"{row.slowest:,.0f} to {row.fastest:,.0f}", _pair(found.ttft_p50_ms, found.ttft_p95_ms),
        _pair(found.gap_p50_ms, found.gap_p95_ms), f"{found.memory_gb:.2f}",
        "—" if found.gpu_gb is None else f"{found.gpu_gb:.1f}", used,
    )  # fmt: skip


def _ratio(found: Mapping[str, Any]) -> tuple[str, ...]:
    return found["name"], str(found["clients"]), f"{found['ratio']:.2f}"


def _pair(middle: float | None, high: float | None) -> str:
    return "—" if middle is None or high is None else f"{middle:,.1f} / {high:,.1f}"


def _table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in cells)


def _serves_on_gpu() -> bool:
    """A GPU does not help packages made for CPUs."""
    try:
        return installed.platform()[0] == "cuda"
    except ServingError:
        return False


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
