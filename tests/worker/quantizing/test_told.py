"""The report of a quantisation, from figures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from studio.config.quantize import QuantizeConfig
from studio.exports import report as reports
from studio.serving.benchmark.figures import Measured
from studio.worker.quantizing.speed import Speed
from studio.worker.quantizing.told import Findings, Measures, report

CONFIG = QuantizeConfig(model_name_or_path="seedling", export_quantization_dataset="/home/rosa/texts.jsonl")
FOUND = Findings(Measures("seedling", 12_000_000, 8.0), Measures("GPTQ W4A16", 4_800_000, 8.2), (128, 64), 4321, "vllm")


def speed(tokens_per_s: float) -> Speed:
    measured = {
        clients: Measured(
            "vllm", clients, 128, 64, requests=2, tokens=100, seconds=1.0, tokens_per_s=tokens_per_s * clients,
            ttft_p50_ms=40.4, ttft_p95_ms=50.0, gap_p50_ms=None, gap_p95_ms=None, memory_gb=1.0, gpu_gb=None,
            others_cores=0.0, kv_used=None, kv_blocks=None, preemptions=0,
        )
        for clients in (1, 8)
    }  # fmt: skip
    return Speed(measured)


def test_one_table_has_both_models_and_says_what_to_draw() -> None:
    found = replace(
        FOUND, before=replace(FOUND.before, speed=speed(90.0)), after=replace(FOUND.after, speed=speed(120.0))
    )
    told = report(CONFIG, found)
    table = told.sections[0].table
    assert table is not None
    assert table.columns == (
        "Model", "Size (MB)", "Perplexity", "Tokens/s, 1 client", "First token (ms), 1 client",
        "Tokens/s, 8 clients", "First token (ms), 8 clients",
    )  # fmt: skip
    assert table.rows == (
        ("seedling", "12.0", "8", "90", "40", "720", "40"),
        ("GPTQ W4A16", "4.8", "8.2", "120", "40", "960", "40"),
    )
    assert table.chart == table.columns[1:]
    assert told.verdict == "60% smaller; perplexity on held-out rows rises by 2.5%."


def test_without_speed_there_are_no_empty_columns() -> None:
    table = report(CONFIG, FOUND).sections[0].table
    assert table is not None
    assert table.columns == ("Model", "Size (MB)", "Perplexity")


def test_what_one_server_refused_is_said_and_the_other_is_shown() -> None:
    after = replace(FOUND.after, speed=Speed({}, "no kernel for it"))
    told = report(CONFIG, replace(FOUND, before=replace(FOUND.before, speed=speed(90.0)), after=after))
    section = told.sections[0]
    assert section.table is not None
    assert section.table.rows[1][3:] == ("—",) * 4
    assert "GPTQ W4A16 could not be served: no kernel for it" in section.text


def test_a_report_names_no_folder_of_the_person(tmp_path: Path) -> None:
    text = reports.markdown(report(CONFIG, FOUND))
    assert "128 rows of texts.jsonl" in text
    assert "rosa" not in text
    reports.write(report(CONFIG, FOUND), tmp_path)
    assert reports.read(tmp_path) is not None


def test_a_ruined_model_does_not_pass() -> None:
    for perplexity in (30.0, math.inf, math.nan):
        told = report(CONFIG, replace(FOUND, after=replace(FOUND.after, perplexity=perplexity)))
        assert not told.passed
        assert "calibrate with rows like those the model was trained on" in told.verdict
