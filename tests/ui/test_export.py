"""The sub-pages of the Export tab, called the way the page calls them, on real adapters and models."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from studio import models
from studio.config.merge import MergeConfig
from studio.exports import report
from studio.exports.report import Answer, Report, Section, Table
from studio.files import write_json
from studio.runs.launchers import WORKERS
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs.chat import pickers
from studio.ui.tabs.export import on_take, page, results, sheet
from studio.ui.tabs.export.kinds import KINDS, Kind
from studio.ui.text import GROUPS
from tests.adapters import RANK, SEEDLING, trained

END_S = 60
MERGE = next(kind for kind in KINDS if kind.name == "merge")


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(MergeConfig, {"adapter_name_or_path": [], "model_name_or_path": []}, MERGE.groups)


@pytest.fixture
def adapter(ctx: Context) -> Path:
    return trained(ctx.store, "fern")


@pytest.fixture
def ended(ctx: Context) -> Iterator[None]:
    """No merge outlives its test."""
    yield
    for run in ctx.store.list("merge"):
        run.stop_now()


@pytest.fixture
def merged(ctx: Context) -> Path:
    """What a merge leaves behind: a model folder and a report."""
    run = ctx.store.create(MergeConfig(adapter_name_or_path=("fern",), run_name="fern-merged"))
    shutil.copytree(SEEDLING, run.path / "model")
    write_json(run.path / "exit.json", {"code": 0, "reason": "completed"})
    write_json(run.path / "result.json", {"output": "model"})
    table = Table(("what", "size"), (("before", "11.5 MB"), ("after", "5.8 MB")), ("size",))
    answers = (Answer("Who?", "A fern.", "A fern."),)
    report.write(
        Report("Merged", "It is the same.", True, (Section("All", "So.", (("KL", "1e-9"),), table, answers),)), run.path
    )
    return run.path


def name_of(kind: Kind) -> str:
    return kind.name


def filled(form: Form, adapter: Path | str = "", **values: Any) -> list[Any]:
    return form.write({"adapter_name_or_path": [str(adapter)] if adapter else [], **values})


def wait(ctx: Context, run_id: str) -> None:
    deadline = time.monotonic() + END_S
    while ctx.store.get(run_id).is_active and time.monotonic() < deadline:
        time.sleep(0.2)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_every_sub_page_can_be_drawn_opened_and_says_what_is_missing(ctx: Context, kind: Kind) -> None:
    assert set(kind.groups) <= set(GROUPS)
    assert kind.name in WORKERS
    with gr.Blocks():
        drawn = sheet.build(ctx, kind)
    assert drawn.subject in drawn.pickers
    updates = sheet.on_open(ctx, kind, None)
    assert len(updates) == len(drawn.pickers)
    told, shell, yaml, button = sheet.on_change(ctx, kind, drawn.form, *drawn.form.write({}))
    assert told == kind.need[0]
    assert (shell, yaml, button["interactive"]) == ("", "", False)
    nowhere = ["/nowhere"] if kind.subject == "adapter_name_or_path" else "/nowhere"
    told, *_ = sheet.on_change(ctx, kind, drawn.form, *drawn.form.write({kind.subject: nowhere}))
    assert told.startswith("### Not ready\n- **")
    look = results.on_look(ctx, kind, "", "")
    assert look is not None
    assert (look["runs"], look["chosen"]) == ([], None)


def test_the_newest_adapter_is_proposed_with_a_name(ctx: Context, adapter: Path) -> None:
    proposed = dict(zip(sheet.offers(ctx, MERGE), sheet.on_open(ctx, MERGE, []), strict=True))
    assert proposed["adapter_name_or_path"]["value"] == [str(adapter)]
    assert proposed["adapter_name_or_path"]["choices"][0][0].startswith("fern · ")
    assert ("seedling", "seedling") in proposed["model_name_or_path"]["choices"]
    assert sheet.on_subject(ctx, MERGE, [str(adapter)]) == "fern-merged"
    assert sheet.on_subject(ctx, MERGE, [str(adapter), "/my/moss"]) == "fern+moss-merged"
    assert sheet.on_subject(ctx, MERGE, []) == ""
    assert "value" not in sheet.on_open(ctx, MERGE, ["/typed/by/hand"])[0]


def test_opening_the_tab_opens_every_sub_page(ctx: Context, adapter: Path) -> None:
    updates = page.on_open(ctx, KINDS, *[None] * len(KINDS))
    assert len(updates) == sum(len(sheet.offers(ctx, kind)) for kind in KINDS)


def test_the_verdict_says_what_will_be_written(ctx: Context, form: Form, adapter: Path) -> None:
    values = filled(form, adapter, export_dtype="float32")
    verdict, shell, yaml, button = sheet.on_change(ctx, MERGE, form, *values)
    assert f"LoRA of rank {RANK} into **seedling**" in verdict
    assert "23.1 MB" in verdict
    assert "are free" in verdict
    assert shell.startswith(f"python -m studio merge {adapter}")
    assert "export_dtype: float32" in yaml
    assert button["interactive"] is True


def test_a_run_id_is_an_adapter_too(ctx: Context, form: Form, adapter: Path) -> None:
    verdict, *_ = sheet.on_change(ctx, MERGE, form, *filled(form, adapter.parent.name))
    assert verdict.startswith("### Ready")


@pytest.mark.parametrize("broken", ["missing", "cut", "no base", "other folder"])
def test_what_cannot_be_merged_is_said_before_anything_starts(
    ctx: Context, form: Form, adapter: Path, tmp_path: Path, broken: str
) -> None:
    base, weights = "seedling", adapter / "adapter_model.safetensors"
    if broken == "missing":
        weights.unlink()
    elif broken == "cut":
        os.truncate(weights, weights.stat().st_size - 10)
    elif broken == "no base":
        base = str(tmp_path / "nowhere")
    else:
        adapter = tmp_path
    values = filled(form, adapter, model_name_or_path=base)
    told = {"missing": "is missing", "cut": "is damaged", "no base": "is not a folder", "other folder": "neither"}
    assert told[broken] in sheet.on_change(ctx, MERGE, form, *values)[0]
    with pytest.raises(gr.Error, match=told[broken]):
        sheet.on_start(ctx, MERGE, form, *values)
    assert ctx.store.list("merge") == []


def test_too_small_a_disk_is_said(ctx: Context, form: Form, adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "huge"
    shutil.copytree(SEEDLING, base)
    size = 2 * shutil.disk_usage(tmp_path).total // 4 * 4
    header = models.read_header(SEEDLING / "model.safetensors")
    tensors = {name: {"dtype": each["dtype"], "shape": each["shape"]} for name, each in header.items()}
    at = 0
    for each in tensors.values():
        width = 2 * int(np.prod(each["shape"]))
        each["data_offsets"], at = [at, at + width], at + width
    tensors["w"] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [at, at + size]}
    text = json.dumps(tensors).encode()
    (base / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    try:
        os.truncate(base / "model.safetensors", 8 + len(text) + at + size)  # a hole: it takes no room
    except OSError as error:
        pytest.skip(f"no file of that size here: {error}")
    verdict, *_, button = sheet.on_change(ctx, MERGE, form, *filled(form, adapter, model_name_or_path=str(base)))
    assert "are free: make room" in verdict
    assert button["interactive"] is False


@pytest.mark.usefixtures("ended")
def test_a_double_click_merges_once_and_the_merge_can_be_cancelled(ctx: Context, form: Form, adapter: Path) -> None:
    values = filled(form, adapter, run_name="mine")
    first = sheet.on_start(ctx, MERGE, form, *values)
    assert sheet.on_start(ctx, MERGE, form, *values) == first
    assert [run.id for run in ctx.store.list("merge")] == [first]
    look = results.on_look(ctx, MERGE, first, "")
    assert look is not None
    assert (look["chosen"]["name"], look["chosen"]["active"], look["chosen"]["result"]) == ("mine", True, None)
    ctx.store.get(first).stop()
    wait(ctx, first)
    look = results.on_look(ctx, MERGE, "", look["stamp"])
    assert look is not None
    assert (look["chosen"]["state"], look["chosen"]["result"]) == ("stopped", None), ctx.store.get(
        first
    ).log.read_text()
    assert results.on_look(ctx, MERGE, "", look["stamp"]) is None, "what is known is not told again"


def test_a_result_is_told_with_its_report_and_where_it_can_go(ctx: Context, merged: Path) -> None:
    look = results.on_look(ctx, MERGE, merged.name, "")
    assert look is not None
    chosen = look["chosen"]
    assert chosen["result"]["takes"][0] == "chat"
    assert chosen["result"]["size"].endswith("MB")
    [section] = chosen["report"]["sections"]
    assert section["table"]["chart"] == ("size",)
    assert section["answers"] == ({"prompt": "Who?", "wanted": "A fern.", "got": "A fern."},)
    texts = results.on_read(ctx, merged.name)
    assert texts is not None
    assert texts["report"].startswith("# Merged")
    shutil.rmtree(merged / "model")
    look = results.on_look(ctx, MERGE, merged.name, "")
    assert look is not None
    assert (look["chosen"]["result"]["there"], look["chosen"]["result"]["takes"]) == (False, ())
    assert look["chosen"]["result"]["download"] == ""


def test_what_failed_its_proof_is_told_and_offered_nowhere(ctx: Context, merged: Path) -> None:
    (merged / "model").rename(merged / "quarantine")
    (merged / "result.json").unlink()
    write_json(merged / "exit.json", {"code": 1, "reason": "failed"})
    write_json(merged / "error.json", {"message": "The answers differ.", "hint": "Do not use it."})
    look = results.on_look(ctx, MERGE, "", "")
    assert look is not None
    chosen = look["chosen"]
    assert chosen["quarantine"]["path"] == str(merged / "quarantine")
    assert (chosen["result"], chosen["failure"]) == (None, "The answers differ. Do not use it.")
    with pytest.raises(gr.Error, match="left nothing"):
        on_take(ctx, KINDS, merged.name, "push")


def test_a_deleted_result_is_told_no_more_until_it_is_back(ctx: Context, merged: Path) -> None:
    ctx.store.trash(ctx.store.get(merged.name))
    look = results.on_look(ctx, MERGE, merged.name, "")
    assert look is not None
    assert (look["chosen"], look["runs"]) == (None, [])
    ctx.store.restore(merged.name)
    look = results.on_look(ctx, MERGE, "", look["stamp"])
    assert look is not None
    assert look["chosen"]["id"] == merged.name


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "chat" in results.TAKEN.get(kind.name, ())], ids=name_of)
def test_what_can_be_taken_to_the_chat_is_offered_there(ctx: Context, kind: Kind) -> None:
    given = {"adapter_name_or_path": ("a", "b"), "model_name_or_path": "m", "action": "average", "run_name": "made"}
    given |= {"export_quantization_method": "rtn", "eval_dataset": "identity"}
    run = ctx.store.create(kind.config(**{key: each for key, each in given.items() if key in kind.config.model_fields}))
    (run.path / ("adapter" if kind.name == "adapter" else "model")).mkdir()
    write_json(run.path / "exit.json", {"code": 0, "reason": "completed"})
    write_json(run.path / "result.json", {"output": "adapter" if kind.name == "adapter" else "model"})
    [label] = [label for label, value in pickers.offers(ctx) if value == str(run.output)]
    assert label.startswith("made · ")
    other = shutil.copytree(run.path, run.path.with_name("20260101-000000-abcdef"))
    (other / "config.yaml").write_text("kind: of another version")
    assert not [value for _, value in pickers.offers(ctx) if value.startswith(str(other))]


def test_a_result_is_taken_to_the_chat_or_to_another_form(ctx: Context, merged: Path) -> None:
    tabs, pages, right, *rest = on_take(ctx, KINDS, merged.name, "chat")
    assert (tabs.selected, pages.selected, right) == ("chat", "compare", str(merged / "model"))
    assert all(each == gr.skip() for each in rest)
    tabs, _, _, inner, *subjects = on_take(ctx, KINDS, merged.name, "merge")
    assert (tabs.selected, inner.selected) == ("export", "merge")
    assert subjects[[kind.name for kind in KINDS].index("merge")] == [str(merged / "model")]
    *_, upload = on_take(ctx, KINDS, merged.name, "push")
    assert upload == merged.name, "an upload tells of the run"
