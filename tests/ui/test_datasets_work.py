"""New sets from old ones and files to take home, called the way the page calls them; the work runs for real."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pyarrow.parquet as pq
import pytest

from studio.config.data import DataConfig
from studio.runs.run import Run, State
from studio.ui import jobs
from studio.ui.context import Context
from studio.ui.form import Form, draw_some
from studio.ui.tabs.datasets import operations, taking
from studio.ui.tabs.datasets.operations import FIELDS, KINDS

PATIENCE_S = 60


@pytest.fixture(scope="module")
def form() -> Form:
    """The form of work."""
    with gr.Blocks():
        return draw_some(DataConfig, FIELDS, {"column": []}, "work")


def ended(ctx: Context) -> Run:
    """The only run, when it has ended."""
    (run,) = ctx.store.list("data")
    deadline = time.monotonic() + PATIENCE_S
    while run.is_active:
        assert time.monotonic() < deadline, run.status
        time.sleep(0.05)
    return run


def values(form: Form, **given: Any) -> list[Any]:
    return form.write({"seed": 7, **given})


def line_of(ctx: Context, subject: str) -> dict[str, Any]:
    (line,) = jobs.on_jobs(ctx, subject)["jobs"]
    return line


def test_every_kind_shows_what_it_takes(ctx: Context, form: Form) -> None:
    for kind, each in KINDS.items():
        others, *updates, _ = operations.on_kind(ctx, form, "identity", kind)
        visible = {key for key, update in zip(FIELDS, updates, strict=True) if update["visible"]}
        assert visible == {*each.fields, "file_format", "output_name"}
        assert others["visible"] is (kind == "merge")
    assert "identity" not in others["choices"]
    assert "alpaca_demo" in others["choices"]


def test_a_split_offers_the_columns_of_the_set(ctx: Context, form: Form) -> None:
    updates = operations.on_kind(ctx, form, "identity", "split-by")[1:]
    assert updates[FIELDS.index("column")]["choices"] == ["instruction", "input", "output"]


@pytest.mark.parametrize(("rows", "proposed"), [(1, "1"), (30, "15"), (169, "85"), (5000, "100")])
def test_the_sample_that_is_proposed_can_be_drawn(ctx: Context, form: Form, rows: int, proposed: str) -> None:
    lines = json.dumps({"instruction": "Who?", "output": "Fern."}) + "\n"
    (ctx.registry.data_dir / "some.jsonl").write_text(lines * rows)
    ctx.registry.add(replace(ctx.registry.entry("identity"), name="some", file_name="some.jsonl"))
    _, *updates, _ = operations.on_kind(ctx, form, "some", "sample")
    assert updates[FIELDS.index("rows")]["value"] == proposed


def test_a_split_makes_two_sets_which_undo_takes_away(ctx: Context, form: Form) -> None:
    operations.on_start(ctx, form, "identity", "split", [], *values(form, fraction=0.9))
    run = ended(ctx)
    assert run.state is State.COMPLETED, run.reason
    line = line_of(ctx, "identity")
    assert len(line["made"]) == 2
    assert line["shown"]
    assert set(line["made"]) <= set(ctx.registry.names())
    jobs.on_undo(ctx, run.id)
    assert not set(line["made"]) & set(ctx.registry.names())
    assert jobs.on_jobs(ctx, "identity")["jobs"] == []


def test_work_that_fails_says_why_until_it_is_dismissed(ctx: Context, form: Form) -> None:
    operations.on_start(ctx, form, "identity", "split-by", [], *values(form, column="no_such_column"))
    run = ended(ctx)
    line = line_of(ctx, "identity")
    assert line["state"] == "failed"
    assert "no_such_column" in line["message"]
    jobs.on_dismiss(ctx, run.id)
    assert jobs.on_jobs(ctx, "identity")["jobs"] == []


def test_a_measurement_that_fails_says_why_and_one_that_does_not_has_its_panel(ctx: Context) -> None:
    (ctx.registry.data_dir / "torn.jsonl").write_text('{"instruction": "Who?", "output": "Fern."}\n')
    ctx.registry.add(replace(ctx.registry.entry("identity"), name="torn", file_name="torn.jsonl"))
    jobs.start(ctx, DataConfig(action="check", dataset=("torn",)))
    ended(ctx)
    assert not line_of(ctx, "torn")["shown"]
    jobs.on_dismiss(ctx, line_of(ctx, "torn")["id"])
    ctx.registry.file("torn").write_bytes(b"PK\x03\x04 no text at all \xff\xfe")
    jobs.start(ctx, DataConfig(action="check", dataset=("torn",)))
    ended(ctx)
    line = line_of(ctx, "torn")
    assert (line["state"], line["shown"]) == ("failed", True)
    assert line["message"]


def test_a_line_keeps_the_capitals_of_a_name(ctx: Context, form: Form) -> None:
    ctx.registry.add(replace(ctx.registry.entry("identity"), name="MySet"))
    operations.on_start(ctx, form, "MySet", "duplicate", [], *values(form))
    ended(ctx)
    assert line_of(ctx, "MySet")["title"] == "Duplicate MySet"


def test_a_double_click_starts_once(ctx: Context, form: Form) -> None:
    for _ in range(2):
        operations.on_start(ctx, form, "identity", "shuffle", [], *values(form))
    assert ended(ctx).state is State.COMPLETED


def test_what_cannot_be_asked_for_says_why(ctx: Context, form: Form) -> None:
    with pytest.raises(gr.Error, match="choose at least two datasets"):
        operations.on_start(ctx, form, "identity", "merge", [], *values(form))
    with pytest.raises(gr.Error, match="how large the sample is"):
        operations.on_start(ctx, form, "identity", "sample", [], *values(form))
    with pytest.raises(gr.Error, match="choose a dataset in the list"):
        operations.on_start(ctx, form, "", "shuffle", [], *values(form))
    assert ctx.store.list("data") == []


def test_work_on_another_set_is_not_told(ctx: Context, form: Form) -> None:
    operations.on_start(ctx, form, "identity", "duplicate", [], *values(form))
    ended(ctx)
    assert jobs.on_jobs(ctx, "alpaca_demo")["jobs"] == []
    assert jobs.on_jobs(ctx, jobs.IMPORTS)["jobs"] == []


@pytest.mark.parametrize("file_format", taking.FORMATS)
def test_a_set_is_taken_home_in_every_format(ctx: Context, tmp_path: Path, file_format: str) -> None:
    path = Path(taking.on_take(ctx, "identity", file_format))
    assert path.name == f"identity.{file_format}"
    if file_format == "parquet":
        assert pq.read_table(path).num_rows == 169
    elif file_format == "json":
        assert len(json.loads(path.read_bytes())) == 169
    else:
        assert path.read_bytes().count(b"\n") >= 169
    path.unlink()
    path.parent.rmdir()
