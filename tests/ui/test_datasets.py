"""Handlers of the Datasets tab, called the way the page calls them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio.config.data import DataConfig
from studio.datasets import checks, edit
from studio.settings import Settings
from studio.ui.context import Context
from studio.ui.tabs.datasets import listing, page
from tests.ui.test_datasets_drafts import ROWS, jsonl, register

FAR = '{"far": {"hf_hub_url": "owner/far", "split": "validation"}, "gone": {"file_name": "gone.json"}}'


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A folder for files that a person drops."""
    folder = tmp_path / "gradio" / "0a1b"
    folder.mkdir(parents=True)
    return folder


def listed(ctx: Context) -> dict[str, dict[str, Any]]:
    """The lines of the list by name."""
    return {row["name"]: row for row in (listing.on_list(ctx, "") or {})["rows"]}


def chosen(ctx: Context, name: str) -> dict[str, Any]:
    """What choosing a set fills, by name."""
    names = (
        "head", "row", "train", "fetch", "make", "take", "columns", "question", "work", "taking", "reading",
        "editor", "undo", "command", "shell", "panels", "rows", "offset", "seen", "total", "place", "first", "prev",
        "next", "last",
    )  # fmt: skip
    return dict(zip(names, page.on_select(ctx, name), strict=True))


def test_the_list_is_sent_once_and_again_after_a_change(ctx: Context, dropped: Path) -> None:
    rows = listed(ctx)
    assert (rows["identity"]["shape"], rows["identity"]["rows"]) == ("conversation", 169)
    assert "plain_text_demo.txt is not in" in rows["plain_text_demo"]["note"]  # the fixture leaves it out
    settled = listing.on_list(ctx, "") or {}  # counting wrote its cache
    assert listing.on_list(ctx, settled["stamp"]) is None
    register(ctx, jsonl(dropped / "mine.jsonl", ROWS))
    assert "mine" in [row["name"] for row in (listing.on_list(ctx, settled["stamp"]) or {})["rows"]]


def test_a_line_tells_the_state_of_its_set(ctx: Context) -> None:
    assert listed(ctx)["identity"]["state"] == "unchecked"
    path, entry = ctx.registry.file("identity"), ctx.registry.entry("identity")
    stamp = (listing.on_list(ctx, "") or {})["stamp"]
    report, _ = checks.survey(path, entry)
    checks.keep(path, entry, report, ctx.registry.cache_dir)
    assert listing.on_list(ctx, stamp) is not None, "a check that ended changes the list"
    line = listed(ctx)["identity"]
    assert (line["state"], line["warnings"]) == ("warnings" if report.warnings else "ok", len(report.warnings))
    assert listed(ctx)["plain_text_demo"]["state"] == "unusable"


def test_sets_on_a_hub_are_no_errors(ctx: Context) -> None:
    ctx.registry.path.write_text(FAR)
    lines = listed(ctx)
    assert (lines["far"]["state"], lines["far"]["hub_id"]) == ("remote", "owner/far")
    assert lines["gone"]["state"] == "unusable"
    shown = chosen(ctx, "far")
    assert (shown["fetch"]["visible"], shown["train"]["visible"], shown["panels"]["visible"]) == (True, False, False)
    assert 'class="card wait"' in shown["head"]


def test_a_set_on_a_hub_is_downloaded_as_its_entry_says(ctx: Context) -> None:
    ctx.registry.path.write_text(FAR)
    page.on_fetch(ctx, "far")
    (run,) = ctx.store.list("data")
    config = run.config
    assert isinstance(config, DataConfig)
    asked = (config.action, config.dataset, config.hub_id, config.split)
    assert asked == ("import", ("far",), "owner/far", "validation")
    run.stop_now()


def test_a_damaged_registry_is_told_in_the_list_and_left_alone(ctx: Context) -> None:
    ctx.registry.path.write_text('{"a": {"file_name": "identity.json"}\n"b"}')
    before = ctx.registry.path.read_bytes()
    answer = listing.on_list(ctx, "")
    assert answer is not None
    assert "damaged at line 2" in answer["fault"]
    assert page.on_select(ctx, "a")[0] == page.NOT_CHOSEN
    assert ctx.registry.path.read_bytes() == before


def test_a_link_to_nowhere_does_not_stop_the_list(ctx: Context) -> None:
    (ctx.registry.data_dir / "gone.json").symlink_to("nowhere.json")
    assert len((listing.on_list(ctx, "") or {})["rows"]) == 5


def test_no_folder_at_all_is_an_empty_list(tmp_path: Path) -> None:
    ctx = Context.of(Settings(data_dir=tmp_path / "nowhere", saves_dir=tmp_path / "saves"))
    assert (listing.on_list(ctx, "") or {})["rows"] == []


def test_choosing_shows_rows_as_turns(ctx: Context) -> None:
    shown = chosen(ctx, "sharegpt_demo")
    assert "sharegpt_demo" in shown["head"]
    assert [shown[part]["visible"] for part in ("row", "panels", "reading", "editor", "undo")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert shown["train"]["interactive"] is True
    assert shown["shell"] == "python -m studio data preview sharegpt_demo"
    assert shown["rows"].count('<section class="data-row">') == 5
    assert '<div class="turn user">' in shown["rows"]
    assert '<div class="turn assistant">' in shown["rows"]
    assert (shown["offset"], shown["total"], shown["place"]) == (0, 65, "Rows 1–5 of 65")
    assert [shown[step]["interactive"] for step in ("first", "prev", "next", "last")] == [False, False, True, True]


def test_a_packed_set_is_no_longer_one_once_it_was_edited(ctx: Context) -> None:
    (ctx.registry.data_dir / "few.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROWS[0]).encode() + b"\n"))
    ctx.registry.add(replace(ctx.registry.entry("identity"), name="few", file_name="few.jsonl.gz"))
    before = chosen(ctx, "few")
    assert "few.jsonl.gz" in before["head"]
    edit.add_row(ctx.registry, "few", ROWS[1])
    assert page.on_edited(ctx, "few", "a newer state") == before["head"].replace(".gz", "")
    assert page.on_edited(ctx, "few", "") == gr.skip(), "why a set cannot be used stays in sight"


def test_a_set_that_cannot_be_used_says_why_and_can_only_be_deleted(ctx: Context) -> None:
    shown = chosen(ctx, "plain_text_demo")
    assert "plain_text_demo.txt is not in" in shown["head"]
    assert shown["row"]["visible"] is True
    assert [shown[act]["interactive"] for act in ("train", "make", "take")] == [False] * 3


def test_preferences_stand_side_by_side(ctx: Context, dropped: Path) -> None:
    row = {"prompt": "Best fruit?", "chosen": "Apples.", "rejected": "Bricks."}
    register(ctx, jsonl(dropped / "prefer.jsonl", [row] * 3))
    pair = chosen(ctx, "prefer")["rows"].split('<div class="pair">')[1]
    assert pair.index("Apples.") < pair.index('<div class="turn rejected">') < pair.index("Bricks.")


def test_deleting_can_be_undone(ctx: Context) -> None:
    name, notice, trashed, *_ = page.on_delete(ctx, "identity")
    assert (name, notice) == ("", "")
    assert "identity" not in ctx.registry.names()
    assert not (ctx.registry.data_dir / "identity.json").exists()
    assert page.on_restore(ctx, trashed)[0] == "identity"
    assert chosen(ctx, "identity")["total"] == 169


def test_a_second_click_on_delete_says_that_it_is_gone(ctx: Context) -> None:
    page.on_delete(ctx, "identity")
    with pytest.raises(gr.Error, match="no dataset 'identity'"):
        page.on_delete(ctx, "identity")


def test_what_work_made_is_opened_if_it_still_exists(ctx: Context) -> None:
    assert page.on_end(ctx, ["no longer there", "identity"]) == ("identity", "")
    assert page.on_end(ctx, []) == (gr.skip(), gr.skip())
