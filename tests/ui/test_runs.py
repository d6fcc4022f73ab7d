"""Handlers of the Runs tab on real run directories and a real process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import gradio as gr
import pytest

from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs import events
from studio.runs.run import Run
from studio.ui import live
from studio.ui.context import Context
from studio.ui.tabs import runs

CONFIG = TrainConfig(dataset=("identity",))


def ended(ctx: Context, reason: str, **files: object) -> Run:
    run = ctx.store.create(CONFIG)
    run.request("CLAIM")
    for name, value in files.items():
        write_json(run.path / f"{name}.json", value)
    write_json(run.path / "exit.json", {"code": 1, "signal": None, "reason": reason, "at": time.time()})
    return run


def test_failure_shows_reason_and_hint_escaped(ctx: Context) -> None:
    run = ended(ctx, "failed", error={"message": "row 3: <b>bad</b>", "hint": "fix it"})
    shown = runs.on_select(ctx, run.id)
    status = shown[6]
    assert "row 3: &lt;b&gt;bad&lt;/b&gt; fix it" in status
    assert "<b>bad" not in status


def test_unchanged_run_costs_nothing(ctx: Context) -> None:
    run = ended(ctx, "completed")
    first = runs.on_tick(ctx, run.id, "")
    again = runs.on_tick(ctx, run.id, first[1])
    assert again[0].active is False
    assert all(update == gr.skip() for update in again[1:])


def test_delete_and_undo(ctx: Context) -> None:
    run = ended(ctx, "completed")
    chosen, trashed, *_ = runs.on_delete(ctx, run.id)
    assert chosen == ""
    assert ctx.store.list() == []
    assert runs.on_undo(ctx, trashed)[0] == run.id
    assert [found.id for found in ctx.store.list()] == [run.id]


def test_buttons_follow_the_state(ctx: Context) -> None:
    run = ended(ctx, "stopped")
    (run.path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (run.path / "checkpoints" / "checkpoint-2" / "trainer_state.json").write_text("{}")
    stop, stop_now, save, resume, chat, merge, delete = (u["interactive"] for u in runs._view(run)[5:])
    assert (stop, stop_now, save, chat, merge) == (False,) * 5
    assert resume
    assert delete


def test_missing_run_is_an_empty_state(ctx: Context) -> None:
    assert "Choose a run" in runs.on_tick(ctx, "", "something")[2]


def test_stop_now_ends_a_worker_whose_nanny_is_gone(ctx: Context) -> None:
    run = ctx.store.create(CONFIG)
    run.request("CLAIM")
    worker = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={"SEEDBED_RUN": str(run.path)},
        start_new_session=True,
    )
    runs.on_request(ctx, "STOP_NOW", run.id)
    assert worker.wait(timeout=5) == -9


def test_curves_of_an_unknown_run_are_nothing(ctx: Context) -> None:
    with gr.Blocks():
        component = live.curves(ctx)
    assert component.curves(["../../etc", 0]) is None


def test_curves_by_cursor(ctx: Context) -> None:
    run = ctx.store.create(CONFIG)
    for step in (1, 2, 3):
        events.append(run.metrics, events.Step(step, 3.0 / step, 1e-4, 1.0, step * 10, 5.0, 0.1, 1.0, time.time()))
    with gr.Blocks():
        component = live.curves(ctx)
    first = component.curves([run.id, 0])
    assert first["series"]["loss"] == [[1, 2, 3], [3.0, 1.5, 1.0]]
    events.append(run.metrics, events.Step(4, float("nan"), 1e-4, 1.0, 40, 5.0, 0.1, 1.0, time.time()))
    assert component.curves([run.id, first["cursor"]])["series"]["loss"] == [[4], [None]]


def test_rows_only_when_something_changed(ctx: Context) -> None:
    ended(ctx, "completed")
    with gr.Blocks():
        table = live.runs_table(ctx)
    first = table.rows("")
    assert [row["state"] for row in first["rows"]] == ["completed"]
    assert table.rows(first["fingerprint"]) is None


@pytest.mark.parametrize("name", ["charts.js", "runs.js", "strip.js"])
def test_scripts_ask_no_other_host(name: str) -> None:
    text = (Path(live.WEB) / name).read_text()
    assert "http://" not in text
    assert "https://" not in text
