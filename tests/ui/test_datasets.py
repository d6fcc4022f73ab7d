"""Handlers of the Datasets tab and of its upload, called the way the page calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from studio.datasets import Registry
from studio.datasets.entry import OPENAI_TAGS, TAGS
from studio.settings import Settings
from studio.ui import mapping
from studio.ui.context import Context
from studio.ui.tabs.datasets import page as datasets
from studio.ui.tabs.datasets import upload

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'
ROWS = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(1, 13)]


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A folder for files that a person drops, as Gradio keeps them."""
    folder = tmp_path / "gradio" / "0a1b"
    folder.mkdir(parents=True)
    return folder


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def values_of(answer: list[Any]) -> list[Any]:
    """What the fields hold after `on_file` answered: the name first."""
    fields = [each["value"] if isinstance(each, dict) else each for each in answer[3:-1]]
    return fields


def register(ctx: Context, path: Path, **changed: Any) -> list[Any]:
    name, *fields = values_of(upload.on_file(str(path)))
    at = ["format", "ranked", *mapping.ROLES, *mapping.NAMES]
    for key, value in changed.items():
        fields[at.index(key)] = value
    return upload.on_register(ctx, upload.PROGRESS, str(path), name, *fields)


def test_the_list_is_sent_once_and_again_after_a_change(ctx: Context, dropped: Path) -> None:
    first = datasets.on_list(ctx, "")
    assert first is not None
    rows = {row["name"]: row for row in first["rows"]}
    assert (rows["identity"]["shape"], rows["identity"]["rows"]) == ("conversation", 169)
    assert "plain_text_demo.txt is not in" in rows["plain_text_demo"]["note"]  # the fixture leaves it out
    settled = datasets.on_list(ctx, "") or {}  # counting wrote its cache
    assert datasets.on_list(ctx, settled["stamp"]) is None
    register(ctx, jsonl(dropped / "mine.jsonl", ROWS))
    assert "mine" in [row["name"] for row in (datasets.on_list(ctx, settled["stamp"]) or {})["rows"]]


def test_a_damaged_registry_is_told_in_the_list_and_left_alone(ctx: Context) -> None:
    ctx.registry.path.write_text('{"a": {"file_name": "identity.json"}\n"b"}')
    before = ctx.registry.path.read_bytes()
    answer = datasets.on_list(ctx, "")
    assert answer is not None
    assert "damaged at line 2" in answer["fault"]
    assert datasets.on_select(ctx, "a")[0] == datasets.NOT_CHOSEN
    assert ctx.registry.path.read_bytes() == before


def test_a_link_to_nowhere_does_not_stop_the_list(ctx: Context) -> None:
    (ctx.registry.data_dir / "gone.json").symlink_to("nowhere.json")
    assert len((datasets.on_list(ctx, "") or {})["rows"]) == 5


def test_no_folder_at_all_is_an_empty_list(tmp_path: Path) -> None:
    ctx = Context.of(Settings(data_dir=tmp_path / "nowhere", saves_dir=tmp_path / "saves"))
    assert (datasets.on_list(ctx, "") or {})["rows"] == []


def test_choosing_shows_rows_as_turns(ctx: Context) -> None:
    head, actions, train, _, _, shell, bar, rows, offset, total, place, *steps = datasets.on_select(
        ctx, "sharegpt_demo"
    )
    assert "sharegpt_demo" in head
    assert (actions["visible"], train["interactive"], bar["visible"]) == (True, True, True)
    assert shell == "python -m studio data preview sharegpt_demo"
    assert rows.count('<section class="data-row">') == datasets.PAGE_ROWS
    assert '<div class="turn user">' in rows
    assert '<div class="turn assistant">' in rows
    assert (offset, total, place) == (0, 65, "Rows 1–5 of 65")
    assert [step["interactive"] for step in steps] == [False, False, True, True]


def test_a_set_that_cannot_be_used_says_why_and_can_only_be_deleted(ctx: Context) -> None:
    head, actions, train, *_ = datasets.on_select(ctx, "plain_text_demo")
    assert "plain_text_demo.txt is not in" in head
    assert (actions["visible"], train["interactive"]) == (True, False)


def test_preferences_stand_side_by_side(ctx: Context, dropped: Path) -> None:
    row = {"prompt": "Best fruit?", "chosen": "Apples.", "rejected": "Bricks."}
    register(ctx, jsonl(dropped / "prefer.jsonl", [row] * 3))
    html = datasets.on_select(ctx, "prefer")[7]
    pair = html.split('<div class="pair">')[1]
    assert pair.index("Apples.") < pair.index('<div class="turn rejected">') < pair.index("Bricks.")


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
    rows, start, _, shown, *_ = datasets.on_page(ctx, step, "identity", offset, 169, typed)
    assert shown == place
    assert f"Row {start + 1} " in rows


@pytest.mark.parametrize("typed", ["", "x", "-3", "1.5", "²"])
def test_a_row_that_is_none(ctx: Context, typed: str) -> None:
    with pytest.raises(gr.Error, match="type its number"):
        datasets.on_page(ctx, "row", "identity", 0, 169, typed)


def test_deleting_can_be_undone(ctx: Context) -> None:
    chosen, notice, trashed, *_ = datasets.on_delete(ctx, "identity")
    assert (chosen, notice) == ("", "")
    assert "identity" not in ctx.registry.names()
    assert not (ctx.registry.data_dir / "identity.json").exists()
    assert datasets.on_undo(ctx, trashed)[0] == "identity"
    assert datasets.on_select(ctx, "identity")[9] == 169


def test_a_second_click_on_delete_says_that_it_is_gone(ctx: Context) -> None:
    datasets.on_delete(ctx, "identity")
    with pytest.raises(gr.Error, match="no dataset 'identity'"):
        datasets.on_delete(ctx, "identity")


def test_a_file_becomes_a_set(ctx: Context, dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    problem, draft, guess, *_ = upload.on_file(str(path))
    assert (problem, draft) == ("", str(path))
    assert "Question and answer" in guess
    verdict, chosen, notice, left, *_ = register(ctx, path)
    assert (verdict, chosen, left) == ("", "mine", "")
    assert "12 rows, 12 usable" in notice
    assert datasets.on_select(ctx, "mine")[9] == 12
    assert not dropped.exists(), "the dropped file takes no room once it is registered"


def test_markup_in_data_is_text(ctx: Context, dropped: Path) -> None:
    rows = [{"instruction": EVIL, "output": EVIL}, {"instruction": EVIL, "output": ""}]
    path = jsonl(dropped / "evil.jsonl", rows)
    name, *fields = values_of(upload.on_file(str(path)))
    sample = upload.on_mapping(str(path), name, *fields)[1]
    notice = register(ctx, path)[2]
    for html in (sample, notice, datasets.on_select(ctx, "evil")[7]):
        assert "<script" not in html
        assert "<img" not in html
    assert "&lt;script&gt;" in sample


def test_rows_at_fault_are_listed_with_their_number(ctx: Context, dropped: Path) -> None:
    rows = [*ROWS, {"instruction": "x", "output": ""}, {"instruction": "y", "output": 7}]
    notice = register(ctx, jsonl(dropped / "mixed.jsonl", rows))[2]
    assert "14 rows, 12 usable, 2 left out" in notice
    assert "<li>row 13: &#x27;output&#x27; must not be empty</li>" in notice
    assert "<li>row 14: " in notice


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("blank.json", b"[]", "is empty"),
        ("binary.json", bytes(range(256)) * 20, "not text"),
        ("latin.csv", "prompt,response\ncaf\xe9,cr\xe8me\n".encode("latin-1"), "UTF-8"),
        ("broken.json", b'[{"instruction": "a", "output": "b"},\n{"instruction": "c" "output": "d"}]', "row 2: line 2"),
        ("broken.jsonl", b'{"instruction": \n', "row 1"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(ctx: Context, dropped: Path, name: str, data: bytes, told: str) -> None:
    (dropped / name).write_bytes(data)
    before = contents(ctx)
    problem, draft, *_ = upload.on_file(str(dropped / name))
    assert told in problem
    assert problem.count(name) == 1
    assert draft == ""
    assert contents(ctx) == before


def test_what_breaks_far_inside_leaves_nothing_behind(ctx: Context, dropped: Path) -> None:
    path = dropped / "late.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS * 30) + b'{"instruction": "x", \n')
    before = contents(ctx)
    verdict, *others = register(ctx, path)
    assert "row 361" in verdict
    assert all(other == gr.skip() for other in others)
    assert contents(ctx) == before
    assert path.exists(), "the file waits, so that the mapping can be corrected"


def test_a_full_disk_is_said_and_leaves_nothing_behind(small_disk: Path, dropped: Path) -> None:
    ctx = Context.of(Settings(data_dir=small_disk, saves_dir=dropped))
    (small_disk / "filler").write_bytes(b"x" * 200_000)
    verdict = register(ctx, jsonl(dropped / "big.jsonl", ROWS * 400))[0]
    assert "the disk is full" in verdict
    assert [path.name for path in small_disk.rglob("big*")] == []
    assert ctx.registry.names() == []


@pytest.mark.parametrize("typed", ["../../outside", "/etc/passwd", "..\\..\\outside", "a/../../outside"])
def test_a_name_never_leaves_the_data_folder(ctx: Context, dropped: Path, typed: str) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    _, *fields = values_of(upload.on_file(str(path)))
    chosen = upload.on_register(ctx, upload.PROGRESS, str(path), typed, *fields)[1]
    assert ctx.registry.file(chosen).parent == ctx.registry.data_dir.resolve()


def test_a_taken_name_gets_a_number(ctx: Context, dropped: Path) -> None:
    assert register(ctx, jsonl(dropped / "identity.jsonl", ROWS))[1] == "identity-2"
    assert ctx.registry.entry("identity").file_name == "identity.json"


def test_an_unknown_shape_waits_for_a_person(ctx: Context, dropped: Path) -> None:
    rows = [{"conv": [{"who": "me", "say": "hi"}, {"who": "you", "say": "hello"}]}] * 3
    path = jsonl(dropped / "odd.jsonl", rows)
    answer = upload.on_file(str(path))
    assert "Say which column is which" in answer[2]
    name, *fields = values_of(answer)
    verdict, found, *_, button = upload.on_mapping(str(path), name, *fields)
    assert "choose the column for: Question or text" in verdict
    assert "&quot;who&quot;: &quot;me&quot;" in found
    assert button["interactive"] is False
    names = {"role_tag": "who", "content_tag": "say", "user_tag": "me", "assistant_tag": "you"}
    assert register(ctx, path, format="sharegpt", messages="conv", **names)[1] == "odd"
    assert "hello" in datasets.on_select(ctx, "odd")[7]
    assert ctx.registry.entry("odd").tags["role_tag"] == "who"


def test_the_sample_follows_the_mapping(dropped: Path) -> None:
    path = jsonl(dropped / "swap.jsonl", [{"instruction": "left", "output": "right"}] * 3)
    name, format, ranked, *rest = values_of(upload.on_file(str(path)))
    rest[0], rest[2] = "output", "instruction"
    _, sample, shell, entry, button = upload.on_mapping(str(path), name, format, ranked, *rest)
    assert sample.index("right") < sample.index("left")
    assert shell == "python -m studio data add swap.jsonl --name swap.jsonl"
    assert json.loads(entry)["swap"]["columns"]["prompt"] == "output"
    assert button["interactive"] is True


def test_a_mapping_that_no_row_fits_is_refused_with_its_rows(ctx: Context, dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    name, format, ranked, *rest = values_of(upload.on_file(str(path)))
    rest[2] = "no_such_column"
    assert "has no field" in upload.on_mapping(str(path), name, format, ranked, *rest)[1]
    verdict = register(ctx, path, response="no_such_column")[0]
    assert "no row can be used" in verdict
    assert "<li>row 1: has no field &#x27;no_such_column&#x27;" in verdict
    assert "mine" not in ctx.registry.names()


def test_pasted_rows_become_a_set(ctx: Context) -> None:
    answer = upload.on_paste("\n".join(json.dumps(row) for row in ROWS[:2]))
    path = Path(answer[1])
    name, *fields = values_of(answer)
    assert upload.on_register(ctx, upload.PROGRESS, str(path), "few", *fields)[1] == "few"
    assert name == "pasted"
    assert not path.parent.exists()


def test_a_bad_paste_names_the_row_and_leaves_no_file() -> None:
    problem, draft, *_ = upload.on_paste('[{"instruction": "a", "output": "b"},\n{"instruction" "c"}]')
    assert "row 2: line 2" in problem
    assert draft == ""
    with pytest.raises(gr.Error, match="paste some rows first"):
        upload.on_paste("  \n")


def test_cancel_forgets_the_file(dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    assert upload.on_cancel(str(path)) == ("", None, "")
    assert not path.exists()
    assert upload.on_cancel("") == ("", None, "")


@pytest.mark.parametrize("name", ["identity", "alpaca_demo", "sharegpt_demo"])
def test_fields_say_back_what_was_detected(ctx: Context, dropped: Path, name: str) -> None:
    file_name = ctx.registry.entry(name).file_name
    shutil.copy(ctx.registry.data_dir / file_name, dropped / file_name)
    copied = register(ctx, dropped / file_name)[1]
    registry = Registry(ctx.registry.data_dir)
    assert datasets.on_select(ctx, copied)[7] == datasets.on_select(ctx, name)[7]
    assert registry.entry(copied).formatting == registry.entry(name).formatting


def test_another_format_shows_its_own_fields_and_usual_names() -> None:
    keys = ["ranked", *mapping.ROLES, *mapping.NAMES, "names"]
    chat = dict(zip(keys, mapping.reshaped("openai", False), strict=True))
    assert [role for role in mapping.ROLES if chat[role]["visible"]] == ["messages", "system", "tools", "kto_tag"]
    assert {tag: chat[tag] for tag in mapping.NAMES} == {tag: OPENAI_TAGS[tag] for tag in mapping.NAMES}
    pairs = dict(zip(keys, mapping.reshaped("alpaca", True), strict=True))
    assert pairs["chosen"]["visible"]
    assert not pairs["response"]["visible"]
    assert pairs["role_tag"] == TAGS["role_tag"]
    text = dict(zip(keys, mapping.reshaped(mapping.TEXT, False), strict=True))
    assert [role for role in mapping.ROLES if text[role]["visible"]] == ["prompt"]


def test_an_empty_name_inside_the_turns_is_asked_for(dropped: Path) -> None:
    path = jsonl(
        dropped / "chat.jsonl", [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]
    )
    name, *fields = values_of(upload.on_file(str(path)))
    fields[2 + len(mapping.ROLES)] = ""
    assert "Key of who speaks" in upload.on_mapping(str(path), name, *fields)[0]


def contents(ctx: Context) -> dict[str, int]:
    """Every file below the data folder that an upload could have left."""
    files = [path for path in ctx.registry.data_dir.rglob("*") if path.is_file() and ".lock" not in path.name]
    return {str(path): path.stat().st_size for path in files}
