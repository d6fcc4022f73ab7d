"""Rows of the chosen set: pages, the editor, deletion and undo, called the way the page calls them."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from studio.datasets import edit
from studio.ui.context import Context
from studio.ui.tabs.datasets import editor, rows


def page_of(values: list[Any]) -> dict[str, Any]:
    """Values of `Pages.turned` by name."""
    return dict(zip(("rows", "offset", "seen", "total", "place"), values, strict=False))


def saved(values: list[Any]) -> tuple[dict[str, Any], str, str]:
    """The page after a save, what can be undone, and its id."""
    return page_of(values[2:]), values[-2], values[-1]


def contents(ctx: Context, name: str) -> bytes:
    return ctx.registry.file(name).read_bytes()


@pytest.mark.parametrize(
    ("step", "offset", "typed", "place"),
    [
        ("next", 0, "", "Rows 6–10 of 169"),
        ("prev", 3, "", "Rows 1–5 of 169"),
        ("last", 0, "", "Rows 166–169 of 169"),
        ("first", 160, "", "Rows 1–5 of 169"),
        ("row", 0, " 120 ", "Rows 120–124 of 169"),
        ("row", 0, "99,999", "Rows 169–169 of 169"),
    ],
)
def test_turning_pages(ctx: Context, step: str, offset: int, typed: str, place: str) -> None:
    page = page_of(rows.on_page(ctx, step, "identity", offset, 169, typed))
    assert page["place"] == place
    assert f"Row {page['offset'] + 1} " in page["rows"]


@pytest.mark.parametrize("typed", ["", "x", "-3", "1.5", "²"])
def test_a_row_that_is_none(ctx: Context, typed: str) -> None:
    with pytest.raises(gr.Error, match="type its number"):
        rows.on_page(ctx, "row", "identity", 0, 169, typed)


def test_a_row_is_changed_and_the_change_undone(ctx: Context) -> None:
    before = contents(ctx, "identity")
    seen = page_of(rows.page(ctx, "identity", 0))["seen"]
    *_, text, reads, save, row = editor.on_edit(ctx, "identity", 2)
    assert "turn assistant" in reads
    assert save["interactive"] is True
    record = json.loads(text) | {"output": "I am a fern."}
    page, what, undo_id = saved(editor.on_save(ctx, "identity", 0, seen, row, json.dumps(record)))
    assert "I am a fern." in page["rows"]
    assert what == "Row 2 was changed."
    assert edit.raw(ctx.registry, "identity", 2) == record
    *values, visible, _, left = rows.on_undo(ctx, "identity", 0, undo_id)
    assert "I am a fern." not in page_of(values)["rows"]
    assert (visible["visible"], left) == (False, "")
    assert contents(ctx, "identity") == before


def test_a_row_is_added_at_the_end(ctx: Context) -> None:
    seen = page_of(rows.page(ctx, "identity", 0))["seen"]
    *_, text, _, _, row = editor.on_add(ctx, "identity")
    blank = json.loads(text)
    assert set(blank) >= {"instruction", "output"}
    assert row == 0
    record = blank | {"instruction": "Last?", "output": "Last."}
    page, *_ = saved(editor.on_save(ctx, "identity", 0, seen, row, json.dumps(record)))
    assert page["place"] == "Rows 170–170 of 170"
    assert "Last." in page["rows"]


def test_a_new_row_has_the_shape_of_the_others(ctx: Context) -> None:
    text = editor.on_add(ctx, "sharegpt_demo")[3]
    assert json.loads(text) == {"conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": ""}]}


def test_rows_are_deleted_and_brought_back(ctx: Context) -> None:
    before = contents(ctx, "identity")
    seen = page_of(rows.page(ctx, "identity", 0))["seen"]
    *values, shown, what, undo_id = rows.on_delete(ctx, "identity", 0, seen, [1, 3])
    assert page_of(values)["place"] == "Rows 1–5 of 167"
    assert (shown["visible"], what) == (True, "2 rows were deleted.")
    rows.on_undo(ctx, "identity", 0, undo_id)
    assert contents(ctx, "identity") == before


def test_deleting_the_last_page_shows_the_one_before(ctx: Context) -> None:
    seen = page_of(rows.page(ctx, "identity", 165))["seen"]
    page = page_of(rows.on_delete(ctx, "identity", 165, seen, [166, 167, 168, 169]))
    assert page["place"] == "Rows 165–165 of 165"


def test_a_file_that_changed_meanwhile_is_not_edited(ctx: Context) -> None:
    seen = page_of(rows.page(ctx, "identity", 0))["seen"]
    text = editor.on_edit(ctx, "identity", 1)[3]
    rows.on_delete(ctx, "identity", 0, seen, [1])
    before = contents(ctx, "identity")
    with pytest.raises(gr.Error, match="changed"):
        editor.on_save(ctx, "identity", 0, seen, 1, text)
    assert contents(ctx, "identity") == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"instruction": "a"', "line 1, column 20"),
        ("[1]", "a row is an object"),
        ("", "line 1, column 1"),
        ("[" * 5000, "nested too deeply"),
        ('{"instruction": "a", "output": NaN}', "NaN"),
    ],
)
def test_what_is_no_row_cannot_be_saved(ctx: Context, text: str, told: str) -> None:
    reads, save = editor.on_typed(ctx, "identity", text)
    assert told in reads
    assert save["interactive"] is False


def test_a_row_that_cannot_be_used_says_why_and_is_not_saved(ctx: Context) -> None:
    text, before = '{"instruction": "a", "output": ""}', contents(ctx, "identity")
    reads, save = editor.on_typed(ctx, "identity", text)
    assert "must not be empty" in reads
    assert save["interactive"] is False
    with pytest.raises(gr.Error, match=r"was not saved.*must not be empty"):
        editor.on_save(ctx, "identity", 0, "", 1, text)
    assert contents(ctx, "identity") == before


def test_markup_in_an_edited_row_is_text(ctx: Context) -> None:
    reads, _ = editor.on_typed(ctx, "identity", json.dumps({"instruction": "<script>1</script>", "output": "<img>"}))
    assert "<script" not in reads
    assert "<img" not in reads
