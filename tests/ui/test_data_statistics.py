"""Handlers of the statistics panel; measuring runs in a process of its own."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from studio.errors import ConfigError
from studio.ui.context import Context
from studio.ui.form import Form
from studio.ui.tabs import data_statistics
from tests.ui.test_data_checks import started, wait


@pytest.fixture
def settings(ctx: Context) -> Form:
    with gr.Blocks():
        return data_statistics.draw_settings(ctx, (*data_statistics.MASKING, "measured_rows"), "measure")


def filled(settings: Form, **values: Any) -> str:
    return data_statistics.subject(settings, "identity", *settings.write({"model_name_or_path": "seedling", **values}))


def test_nothing_chosen_asks_nothing(settings: Form) -> None:
    assert data_statistics.subject(settings, "", *settings.write({})) == ""


def test_an_empty_number_of_rows_measures_all(settings: Form) -> None:
    config = data_statistics.asked_config(filled(settings, measured_rows=None))
    assert config.measured_rows is None
    assert data_statistics.asked_config(filled(settings)).measured_rows == 20_000


def test_the_page_cannot_ask_for_anything_else(settings: Form) -> None:
    subject = json.dumps({**json.loads(filled(settings)), "action": "merge"})
    assert data_statistics.asked_config(subject).action == "statistics"
    for damaged in ("[]", "{", json.dumps({"dataset": ["identity"], "nope": 1}), filled(settings, cutoff_len=1)):
        with pytest.raises(ConfigError):
            data_statistics.asked_config(damaged)


def test_measured_once_then_known(ctx: Context, settings: Form) -> None:
    subject = filled(settings, cutoff_len=24)
    before = data_statistics.on_look(ctx, subject, "")
    assert before is not None
    assert before["statistics"] is None
    wait(ctx, started(data_statistics.on_measure(ctx, subject)))
    answer = data_statistics.on_look(ctx, subject, before["stamp"])
    assert answer is not None
    found = answer["statistics"]
    assert found["rows"] == found["rows_measured"] == 169
    assert found["p50"] <= found["p95"] <= found["p100"]
    assert 0 < found["trained_share"] < 1
    assert {"code", "rows", "severity", "zh"} <= found["findings"][0].keys()
    assert data_statistics.on_look(ctx, subject, answer["stamp"]) is None
    other = data_statistics.on_look(ctx, filled(settings, cutoff_len=25), "")
    assert other is not None
    assert other["statistics"] is None


def test_the_cutoff_of_the_chart_is_a_whole_number() -> None:
    assert data_statistics.on_cutoff(gr.EventData(None, {"cutoff": 512.0})) == 512
