"""Handlers of the Export tab, called the way the page calls them, on a real adapter and a real merge."""

from __future__ import annotations

import json
import math
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
from safetensors.numpy import save_file

from studio import models
from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.settings import ASSETS
from studio.ui.context import Context
from studio.ui.form import Form, draw
from studio.ui.tabs import export

SEEDLING = ASSETS / "seedling"
MERGE_S = 120
RANK = 4


@pytest.fixture(scope="module")
def form() -> Form:
    with gr.Blocks():
        return draw(MergeConfig, {"adapter_name_or_path": [], "model_name_or_path": []}, ("merge",))


@pytest.fixture
def adapter(ctx: Context) -> Path:
    """The adapter of a finished training: a small random LoRA on the first attention layer of the bundled model."""
    config = TrainConfig(model_name_or_path="seedling", dataset=("identity",), run_name="fern")
    run = ctx.store.create(config)
    folder = run.path / "adapter"
    folder.mkdir()
    name = "model.layers.0.self_attn.q_proj"
    lines, columns = models.read_header(SEEDLING / "model.safetensors")[f"{name}.weight"]["shape"]
    chance = np.random.default_rng(0)
    weights = {
        f"base_model.model.{name}.lora_A.weight": chance.normal(0, 0.02, (RANK, columns)).astype(np.float32),
        f"base_model.model.{name}.lora_B.weight": chance.normal(0, 0.02, (lines, RANK)).astype(np.float32),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    write_json(
        folder / "adapter_config.json",
        {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"]},
    )
    write_json(folder / "base.json", {"name": "seedling", "path": str(SEEDLING)})
    write_json(run.path / "exit.json", {"code": 0, "reason": "completed"})
    write_json(run.path / "result.json", {"output": "adapter"})
    return folder


@pytest.fixture
def ended(ctx: Context) -> Iterator[None]:
    """No merge outlives its test."""
    yield
    for run in ctx.store.list("merge"):
        run.stop_now()


def filled(form: Form, **values: Any) -> list[Any]:
    return form.write({"model_name_or_path": "seedling", **values})


def test_without_an_adapter_the_tab_says_what_to_do(ctx: Context, form: Form) -> None:
    adapter, _, chosen = export.on_open(ctx, "", None)
    assert (adapter["choices"], adapter["value"], chosen["choices"]) == ([], "", [])
    verdict, shell, yaml, button = export.on_change(ctx, form, *filled(form))
    assert "choose the adapter" in verdict
    assert (shell, yaml, button["interactive"]) == ("", "", False)
    assert export.on_select(ctx, None)[1] == export.NO_MERGES


def test_the_newest_adapter_is_proposed_with_its_base_and_a_name(ctx: Context, adapter: Path) -> None:
    proposed, bases, _ = export.on_open(ctx, "", None)
    assert proposed["value"] == str(adapter)
    assert proposed["choices"][0][0].startswith("fern · ")
    assert ("seedling", "seedling") in bases["choices"]
    assert export.on_adapter(ctx, str(adapter)) == ("seedling", "fern-merged")
    assert export.on_open(ctx, "/typed/by/hand", None)[0]["value"] == "/typed/by/hand"


@pytest.mark.parametrize(("dtype", "megabytes"), [("auto", 11.5), ("float32", 23.0)])
def test_the_verdict_says_what_will_be_written(
    ctx: Context, form: Form, adapter: Path, dtype: str, megabytes: float
) -> None:
    verdict, shell, yaml, button = export.on_change(
        ctx, form, *filled(form, adapter_name_or_path=str(adapter), export_dtype=dtype)
    )
    assert f"LoRA of rank {RANK} into **seedling**" in verdict
    written = float(verdict.split("Writes about ")[1].split(" MB")[0])
    assert math.isclose(written, megabytes, rel_tol=0.02)
    assert shell.startswith(f"python -m studio merge {adapter}")
    assert f"export_dtype: {dtype}" in yaml
    assert button["interactive"] is True


def test_a_run_id_is_an_adapter_too(ctx: Context, form: Form, adapter: Path) -> None:
    verdict, *_ = export.on_change(ctx, form, *filled(form, adapter_name_or_path=adapter.parent.name))
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
    values = filled(form, adapter_name_or_path=str(adapter), model_name_or_path=base)
    told = {"missing": "is missing", "cut": "is damaged", "no base": "is not a folder", "other folder": "neither"}
    assert told[broken] in export.on_change(ctx, form, *values)[0]
    with pytest.raises(gr.Error, match=told[broken]):
        export.on_start(ctx, form, *values)
    assert ctx.store.list("merge") == []


def test_too_small_a_disk_is_said(ctx: Context, form: Form, adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "huge"
    shutil.copytree(SEEDLING, base)
    size = 2 * shutil.disk_usage(tmp_path).total // 4 * 4
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    (base / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    try:
        os.truncate(base / "model.safetensors", 8 + len(header) + size)  # a hole: it takes no room
    except OSError as error:
        pytest.skip(f"no file of that size here: {error}")
    values = filled(form, adapter_name_or_path=str(adapter), model_name_or_path=str(base))
    verdict, *_, button = export.on_change(ctx, form, *values)
    assert "make room first" in verdict
    assert button["interactive"] is False


@pytest.mark.usefixtures("ended")
def test_a_double_click_merges_once_and_the_merge_is_shown_to_its_end(ctx: Context, form: Form, adapter: Path) -> None:
    values = filled(form, adapter_name_or_path=str(adapter), run_name="mine")
    first = export.on_start(ctx, form, *values)
    assert export.on_start(ctx, form, *values) == first
    assert [run.id for run in ctx.store.list("merge")] == [first]
    assert export.on_started(ctx, first)["value"] == first

    seen, status, chat, stop, _, timer = export.on_select(ctx, first)
    assert "mine" in status
    assert (chat["visible"], stop["visible"], timer.active) == (False, True, True)
    deadline = time.monotonic() + MERGE_S
    while ctx.store.get(first).is_active and time.monotonic() < deadline:
        time.sleep(0.2)
    _, status, chat, stop, model, timer = export.on_tick(ctx, first, seen)
    assert '<span class="badge completed">' in status, ctx.store.get(first).log.read_text()
    assert "Same greedy answers" in status
    assert (chat["visible"], stop["visible"], timer.active) == (True, False, False)
    assert models.check(Path(model)).architecture == models.check(SEEDLING).architecture
    seen = export.on_select(ctx, first)[0]
    assert all(each == gr.skip() for each in export.on_tick(ctx, first, seen)), "an ended merge costs nothing"
    assert export.on_open(ctx, "", None)[2]["value"] == first


@pytest.mark.usefixtures("ended")
def test_a_failure_gives_its_reason(ctx: Context, form: Form, adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    write_json(adapter / "adapter_config.json", {**config, "r": RANK + 1})
    run_id = export.on_start(ctx, form, *filled(form, adapter_name_or_path=str(adapter)))
    deadline = time.monotonic() + MERGE_S
    while ctx.store.get(run_id).is_active and time.monotonic() < deadline:
        time.sleep(0.2)
    _, status, chat, *_ = export.on_select(ctx, run_id)
    assert '<div class="card bad">' in status
    assert "rank 4" in status
    assert chat["visible"] is False


def test_a_merge_that_was_deleted_is_no_error(ctx: Context) -> None:
    assert export.on_select(ctx, "20260101-000000-abcdef")[1] == export.NO_MERGES
    assert export.on_tick(ctx, "20260101-000000-abcdef", "seen")[5].active is False
