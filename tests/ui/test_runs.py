"""Handlers of the Runs tab on real run directories and a real process."""

from __future__ import annotations

import re
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
from studio.ui import cards, live
from studio.ui.context import Context
from studio.ui.tabs import runs
from tests.checkpoints import make_checkpoint

BUTTONS = ("stop", "stop_now", "save", "resume", "change", "chat", "merge", "push", "again", "delete", "retry")
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
    _, _, status, *_ = runs.on_look(ctx, run.id, "")
    assert "row 3: &lt;b&gt;bad&lt;/b&gt; fix it" in status
    assert "<b>bad" not in status


def test_unchanged_run_costs_nothing(ctx: Context) -> None:
    run = ended(ctx, "completed")
    first = runs.on_look(ctx, run.id, "")
    again = runs.on_look(ctx, run.id, first[1])
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
    updates = dict(zip(BUTTONS, runs.on_look(ctx, run.id, "")[-len(BUTTONS) :], strict=True))
    assert {name for name, update in updates.items() if update.get("interactive")} == {
        "resume", "change", "again", "delete",
    }  # fmt: skip
    assert updates["retry"]["visible"] is False


def test_a_damaged_checkpoint_is_passed_over_and_that_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ended(ctx, "stopped")
    for step in (2, 4):
        make_checkpoint(run.path / "checkpoints" / f"checkpoint-{step}", step)
    (run.path / "checkpoints" / "checkpoint-4" / "model.safetensors").write_text("torn")
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", told.append)
    resumed = ctx.store.get(runs.on_resume(ctx, run.id))
    resumed.stop_now()
    assert "checkpoint-4 is damaged" in told[0]
    assert resumed.config.resume_from_checkpoint == "checkpoints/checkpoint-2"


def test_a_failed_run_offers_what_its_card_says(ctx: Context) -> None:
    retry = {"per_device_train_batch_size": 1, "gradient_checkpointing": "on"}
    run = ended(ctx, "failed", error={"message": "Memory ran out.", "retry": retry})
    button = runs.on_look(ctx, run.id, "")[-1]
    assert button["visible"] is True
    assert button["value"].endswith("per_device_train_batch_size: 1, gradient_checkpointing: on")


def test_a_run_that_the_kernel_ended_is_offered_a_lighter_try(ctx: Context) -> None:
    run = ctx.store.create(CONFIG.model_copy(update={"per_device_train_batch_size": 64}))
    run.request("CLAIM")
    told = {"code": None, "signal": 9, "reason": "failed", "out_of_memory": True, "at": time.time()}
    write_json(run.path / "exit.json", told)
    button = runs.on_look(ctx, run.id, "")[-1]
    assert button["visible"] is True
    assert ": " in button["value"].removeprefix(str(runs.RETRY))  # an option and its value


def test_the_outcome_names_the_figures_and_the_best_checkpoint(ctx: Context) -> None:
    best = {"best_step": 3, "best_metric": "rewards/margins", "best_value": 0.51234}
    run = ctx.store.create(CONFIG)
    events.append(run.metrics, events.Step(4, 0.5, 1e-4, 1, 9, 5, 0, 1, 0.0, {"rewards/margins": 0.25}))
    events.append(run.metrics, events.Eval(4, 0.75, 0.0, "", {"rewards/margins": 0.125}))
    write_json(run.path / "result.json", {"output": "adapter", "steps": 4, "train_seconds": 61.0, **best})
    html = cards.outcome(run)
    told = re.sub(r"<[^>]+>", " ", html)
    for words in (
        "steps 4",
        "Last step: rewards/margins  0.25",
        "Last validation: eval_loss  0.75",
        "eval_rewards/margins  0.125",
        "1 min 1 s",
    ):
        assert " ".join(words.split()) in " ".join(told.split())
    assert "Best checkpoint: step 3 , validation rewards/margins 0.5123" in " ".join(told.split())
    with gr.Blocks():
        component = live.curves(ctx)
    assert component.curves([run.id, 0])["best"] == {"step": 3, "metric": "rewards/margins", "value": 0.51234}


def test_remarks_by_cursor(ctx: Context) -> None:
    run = ctx.store.create(CONFIG)
    events.append(run.metrics, events.Sample(0, "Who?", 'A "note" to you', 0.0))
    events.append(run.metrics, events.Step(1, 0.5, 1e-4, 1, 9, 5, 0, 1, 0.0))
    events.append(run.metrics, events.Note("warning", "rows left out", 0.0))
    with gr.Blocks():
        component = live.remarks(ctx)
    first = component.remarks([run.id, 0])
    assert first["samples"] == [{"step": 0, "prompt": "Who?", "answer": 'A "note" to you'}]
    assert first["notes"] == [{"level": "warning", "text": "rows left out"}]
    events.append(run.metrics, events.Sample(1, "Who?", "Fern.", 0.0))
    later = component.remarks([run.id, first["cursor"]])
    assert ([each["answer"] for each in later["samples"]], later["notes"]) == (["Fern."], [])
    assert component.remarks(["../../etc", 0]) is None


def test_missing_run_is_an_empty_state(ctx: Context) -> None:
    assert "Choose a run" in runs.on_look(ctx, "", "something")[2]


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


@pytest.mark.parametrize(
    "name",
    [
        "charts.js",
        "copying.js",
        "remarks.js",
        "runs.js",
        "runs_checkpoints.js",
        "runs_processes.js",
        "strip.js",
        "train_find.js",
        "train_kept.js",
        "train_outlook.js",
        "train_parallel.js",
        "train_told.js",
    ],
)
def test_scripts_ask_no_other_host(name: str) -> None:
    text = (Path(live.WEB) / name).read_text()
    assert "http://" not in text
    assert "https://" not in text
