"""Handlers of the Benchmark page, called the way the page calls them."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr
import pytest

from studio.config.bench import BenchConfig
from studio.runs.run import Run, State
from studio.serving.benchmark import report
from studio.serving.benchmark.demand import Demand
from studio.serving.benchmark.figures import Answer, measured
from studio.serving.benchmark.workload import Case
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs.chat import bench


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(BenchConfig, {"model_name_or_path": [], "variants": []}, ("bench",))


def given(form: Form, **values: Any) -> list[Any]:
    return form.write(values)


def test_a_sound_form_says_how_much_there_is_to_measure(form: Form) -> None:
    told, shell, button = bench.on_change(form, *given(form, concurrency="1,2", repeats=3, limit_s=10))
    assert "**18 measurements**, at most about 3 min" in told
    assert shell.startswith("python -m studio bench serve")
    assert button["interactive"]


def test_what_is_wrong_is_said_and_nothing_can_be_started(form: Form) -> None:
    told, shell, button = bench.on_change(form, *given(form, variants=["int9"], concurrency="0"))
    assert "'int9' is no way to answer" in told
    assert "concurrency" in told
    assert not shell
    assert not button["interactive"]


def test_nothing_was_measured_yet(ctx: Context) -> None:
    assert bench.on_open(ctx, None)[1]["value"] is None
    assert bench.on_results(ctx, "", "")["state"] == "none"
    assert bench.on_results(ctx, "20260101-000000-abcdef-gone", "")["state"] == "none"


def test_figures_are_told_once(ctx: Context) -> None:
    config = BenchConfig(run_name="evening")
    run = ctx.store.create(config)
    found = measured("vllm", Case(8, 16, 4), [Answer(0.0, 0.5, 1.0, 40)], Demand(1.5, None, 0.0))
    report.write(run.path, config, [found], {"fp8": "no such kernel"})
    told = bench.on_results(ctx, run.id, "")
    assert told is not None
    [row] = told["results"]["rows"]
    assert (row["name"], row["clients"], row["tokens_per_s"]) == ("vLLM", 8, 40.0)
    assert told["results"]["failed"] == {"vLLM, fp8": "no such kernel"}
    assert "| vLLM | 8 | 40 |" in told["report"]
    assert bench.on_results(ctx, run.id, told["stamp"]) is None


def test_the_newest_is_shown_unless_another_is_chosen(ctx: Context) -> None:
    older, newer = (ctx.store.create(BenchConfig(run_name=name)) for name in ("first", "second"))
    ids = sorted((older.id, newer.id), reverse=True)
    assert [run_id for _, run_id in bench.on_open(ctx, None)[1]["choices"]] == ids
    assert bench.on_open(ctx, None)[1]["value"] == ids[0]
    assert bench.on_open(ctx, ids[1])[1]["value"] == ids[1]


def test_a_double_click_starts_one_benchmark_and_its_failure_is_told(ctx: Context, form: Form) -> None:
    values = given(form, model_name_or_path="/gone", variants=["generate_single"])
    first, second = (bench.on_start(ctx, form, *values)["value"] for _ in range(2))
    assert first == second
    run = ctx.store.get(first)
    wait_ended(run)
    told = bench.on_results(ctx, first, "")
    assert told is not None
    assert told["state"] == State.FAILED
    assert "/gone" in told["message"]


def test_what_is_wrong_with_the_form_is_shown_at_the_start_too(ctx: Context, form: Form) -> None:
    with pytest.raises(gr.Error, match="no way to answer"):
        bench.on_start(ctx, form, *given(form, variants=["int9"]))


def wait_ended(run: Run) -> None:
    deadline = time.monotonic() + 60
    while run.is_active:
        assert time.monotonic() < deadline
        time.sleep(0.05)
