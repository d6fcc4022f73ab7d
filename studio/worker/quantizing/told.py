"""The report of a quantisation: one table of the model before and after, with what is worth drawing of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from studio.config.quantize import QuantizeConfig
from studio.exports.report import Report, Section, Table
from studio.serving.benchmark.report import machine
from studio.worker.quantizing.speed import CLIENTS, Speed

RUINED = 3.0  # times the perplexity that it had
STRANGE = 1000.0  # beyond it a model knows next to nothing of such texts, and differences are chance
SIZE, PERPLEXITY = "Size (MB)", "Perplexity"
SERVERS = {"vllm": "vLLM", "huggingface": "the Transformers server"}
UNKNOWN = "—"


@dataclass(frozen=True)
class Measures:
    """One model: its folder's bytes, its perplexity on the held-out rows, and its speed where that was measured."""

    name: str
    bytes: int
    perplexity: float
    speed: Speed | None = None


@dataclass(frozen=True)
class Findings:
    """The model before and after. `rows`: of calibration, held out; `tokens` are what the latter count."""

    before: Measures
    after: Measures
    rows: tuple[int, int]
    tokens: int
    server: str

    @property
    def is_ruined(self) -> bool:
        """Whether what came out is no longer the same model in any useful sense."""
        return not self.after.perplexity < RUINED * self.before.perplexity

    @property
    def change(self) -> float:
        """Of the perplexity, as a share of what it was."""
        return self.after.perplexity / self.before.perplexity - 1

    @property
    def smaller(self) -> float:
        """The share of the bytes that is gone."""
        return 1 - self.after.bytes / self.before.bytes


def report(config: QuantizeConfig, found: Findings) -> Report:
    """What the person is told; not passed where the model is ruined."""
    return Report(
        title=f"{found.before.name}: {config.scheme}",
        verdict=_verdict(config, found),
        passed=not found.is_ruined,
        sections=(
            Section("Before and after", _conditions(config, found), table=_table(found)),
            Section("How it was quantised", figures=tuple(_how(config, found))),
        ),
        facts=asdict(found),
    )


def _verdict(config: QuantizeConfig, found: Findings) -> str:
    if found.is_ruined:
        path = f"{_figure(found.before.perplexity)} to {_figure(found.after.perplexity)}"
        return f"Perplexity went from {path}: the result is ruined and is kept apart. {_way_out(config)}"
    direction = "rises" if found.change > 0 else "falls"
    return f"{found.smaller:.0%} smaller; perplexity on held-out rows {direction} by {abs(found.change):.1%}."


def _way_out(config: QuantizeConfig) -> str:
    calibrated = "calibrate with rows like those the model was trained on, take more of them"
    ways = [calibrated] if config.is_calibrated else ["take gptq or awq, which calibrate"]
    return f"Ways out: {', '.join([*ways, 'smaller groups, 8 bits, or leave modules out'])}."


def _table(found: Findings) -> Table:
    heads = [(SIZE, PERPLEXITY), *(_heads(clients) for clients in CLIENTS if _has_speed(found))]
    columns = tuple(head for pair in heads for head in pair)
    rows = tuple((each.name, *_cells(each, _has_speed(found))) for each in (found.before, found.after))
    return Table(("Model", *columns), rows, chart=columns)


def _has_speed(found: Findings) -> bool:
    return any(each.speed and each.speed.measured for each in (found.before, found.after))


def _heads(clients: int) -> tuple[str, str]:
    who = "1 client" if clients == 1 else f"{clients} clients"
    return f"Tokens/s, {who}", f"First token (ms), {who}"


def _cells(each: Measures, has_speed: bool) -> Iterator[str]:
    yield from (f"{each.bytes / 1e6:.1f}", _figure(each.perplexity))
    for clients in CLIENTS if has_speed else ():
        measured = each.speed.measured.get(clients) if each.speed else None
        yield from (f"{measured.tokens_per_s:.0f}", f"{measured.ttft_p50_ms:.0f}") if measured else (UNKNOWN, UNKNOWN)


def _conditions(config: QuantizeConfig, found: Findings) -> str:
    data = _called(config.eval_dataset or str(config.export_quantization_dataset))
    told = [f"Perplexity on {found.tokens:,} tokens of {found.rows[1]} rows of {data} that calibrated nothing."]
    if found.before.perplexity > STRANGE:
        told.append("The model knows nothing of such rows: choose others, or the perplexities say little.")
    if _has_speed(found):
        told.append(f"Served by {SERVERS[found.server]} on {machine()}; one measurement of each, in tokens of answers.")
    for each in (found.before, found.after):
        if each.speed and each.speed.failed:
            told.append(f"{each.name} could not be served: {each.speed.failed}")
    return " ".join(told)


def _how(config: QuantizeConfig, found: Findings) -> Iterator[tuple[str, str]]:
    yield "Method", config.scheme
    if config.is_grouped:
        yield "Group size", "a whole row" if config.group_size == -1 else str(config.group_size)
        yield "Zero points", "no" if config.symmetric else "yes"
    yield "Left out", ", ".join(config.modules_to_not_convert) or "nothing"
    if config.is_calibrated:
        what = f"{found.rows[0]} rows of {_called(str(config.export_quantization_dataset))}"
        yield "Calibrated with", f"{what}, up to {config.export_quantization_maxlen} tokens each"
    yield "Made of", found.before.name


def _called(dataset: str) -> str:
    """A file by its name alone: a report may be shown to others."""
    return Path(dataset).name


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else str(value)
