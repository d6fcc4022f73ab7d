"""Files that wait to be registered, called the way the page calls the handlers."""

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
from studio.ui.tabs.datasets import drafts, page, way_in
from studio.ui.tabs.datasets.drafts import Draft

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'
ROWS = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(1, 13)]
KEYS = ("format", "ranked", *mapping.ROLES, *mapping.NAMES)
NOTHING = ((), "", "", *[""] * len(KEYS))


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A folder for files that a person drops, as Gradio keeps them."""
    folder = tmp_path / "gradio" / "0a1b"
    folder.mkdir(parents=True)
    return folder


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def drop(*paths: Path, laid: tuple[Any, ...] = NOTHING) -> list[Any]:
    """What `Desk.laid` holds after files were dropped, the problem card first."""
    return way_in.on_files([str(path) for path in paths], *laid)[1:]


def laid_of(answer: list[Any]) -> tuple[Any, ...]:
    """What the page would send next: the files that wait, the opened one, its name and fields as filled in."""
    waiting, opened, _, _, _, *fields = answer
    filled = [each["value"] if isinstance(each, dict) else each for each in fields[: 1 + len(KEYS)]]
    return (waiting, opened, *filled)


def changed(laid: tuple[Any, ...], **values: Any) -> tuple[Any, ...]:
    """The same after a person corrected some fields."""
    fields = dict(zip(("drafts", "opened", "name", *KEYS), laid, strict=True)) | values
    return tuple(fields.values())


def register(ctx: Context, path: Path, **values: Any) -> list[Any]:
    """Verdict, chosen set, notice and desk after `path` was dropped, corrected and registered."""
    laid = laid_of(drop(path)[1:])
    return drafts.on_register(ctx, drafts.PROGRESS, *changed(laid, **values))


def contents(ctx: Context) -> dict[str, int]:
    """Every file below the data folder that an upload could have left."""
    files = [path for path in ctx.registry.data_dir.rglob("*") if path.is_file() and ".lock" not in path.name]
    return {str(path): path.stat().st_size for path in files}


def first_rows(ctx: Context, name: str) -> str:
    """The rows of a set as its page shows them."""
    return "".join(value for value in page.on_select(ctx, name) if isinstance(value, str) and "data-rows" in value)


def test_a_file_becomes_a_set(ctx: Context, dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    problem, waiting, opened, _, _, guess, *_ = drop(path)
    assert (problem, opened, [draft.name for draft in waiting]) == ("", str(path), ["mine"])
    assert "Question and answer" in guess
    verdict, chosen, notice, _, left, opened, *_ = register(ctx, path)
    assert (verdict, chosen, left, opened) == ("", "mine", (), "")
    assert "12 rows" in notice
    assert "Answer 1." in first_rows(ctx, "mine")
    assert not dropped.exists(), "the dropped file takes no room once it is registered"


def test_a_torn_file_becomes_a_set_and_is_told_in_few_lines(ctx: Context, dropped: Path) -> None:
    path = jsonl(dropped / "torn.jsonl", [*ROWS, {"instruction": "Who?", "output": ""}])
    path.write_text(path.read_text(encoding="utf-8") + '{"instruction": \n' * 9, encoding="utf-8")
    _, chosen, notice, *_ = register(ctx, path)
    assert chosen == "torn"
    assert 'class="card bad"' in notice
    assert "22 rows, 12 usable, 10 left out" in notice
    assert notice.count("<li>") == 3, "one for each finding, one that says what to do"
    assert "Checks shows the rows and repairs them before a training" in notice


def test_several_files_wait_and_are_opened_one_after_the_other(ctx: Context, dropped: Path) -> None:
    paths = [jsonl(dropped / f"part{number}.jsonl", ROWS) for number in (1, 2, 3)]
    answer = drop(*paths)[1:]
    listed = json.loads(answer[2]["value"])
    assert [(each["file_name"], each["sure"], each["opened"]) for each in listed] == [
        ("part1.jsonl", True, True), ("part2.jsonl", True, False), ("part3.jsonl", True, False),
    ]  # fmt: skip
    assert listed[0]["shape"] == "Question and answer (alpaca)"
    answer = drafts.on_open(2, *changed(laid_of(answer), name="first"))
    assert answer[1] == str(paths[2])
    assert answer[0][0].name == "first", "what was corrected is kept while another file is looked at"
    _, chosen, _, _, waiting, opened, *_ = drafts.on_register(ctx, drafts.PROGRESS, *laid_of(answer))
    assert (chosen, opened) == ("part3", str(paths[0]))
    assert [draft.name for draft in waiting] == ["first", "part2"]


def test_all_sure_ones_are_registered_at_once(ctx: Context, dropped: Path) -> None:
    odd = jsonl(dropped / "odd.jsonl", [{"conv": [{"who": "me", "say": "hi"}]}] * 3)
    paths = [jsonl(dropped / f"part{number}.jsonl", ROWS) for number in (1, 2)]
    laid = laid_of(drop(odd, *paths)[1:])
    _, chosen, notice, _, waiting, opened, *_ = drafts.on_register_sure(ctx, drafts.PROGRESS, *laid)
    assert chosen == "part2"
    assert "part1" in notice
    assert ([draft.name for draft in waiting], opened) == (["odd"], str(odd))


def test_one_file_is_left_out(dropped: Path) -> None:
    paths = [jsonl(dropped / f"part{number}.jsonl", ROWS) for number in (1, 2)]
    answer = drafts.on_leave(0, *laid_of(drop(*paths)[1:]))
    assert ([draft.name for draft in answer[0]], answer[1]) == (["part2"], str(paths[1]))
    assert not paths[0].exists()
    assert paths[1].exists()


def test_a_look_that_comes_after_its_file_was_left_changes_nothing(dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    laid = laid_of(drop(path)[1:])
    assert "Question 1?" in drafts.on_mapping(*laid)[1]
    path.unlink()
    assert drafts.on_mapping(*laid) == [gr.skip()] * 5


def test_files_of_the_same_name_get_numbers(ctx: Context, dropped: Path) -> None:
    (dropped / "a").mkdir()
    (dropped / "b").mkdir()
    paths = [jsonl(dropped / folder / "same.jsonl", ROWS) for folder in "ab"]
    drafts.on_register_sure(ctx, drafts.PROGRESS, *laid_of(drop(*paths)[1:]))
    assert ctx.registry.names()[-2:] == ["same", "same-2"]


def test_a_path_of_this_machine_is_read_and_left_where_it_is(ctx: Context, dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    laid = laid_of(way_in.on_path(ctx, f"  {path} ", *NOTHING)[1:])
    assert drafts.on_register(ctx, drafts.PROGRESS, *laid)[1] == "mine"
    assert path.exists()
    assert drafts.on_cancel(laid[0])[0] == ()
    assert path.exists()


def test_a_folder_of_this_machine_becomes_one_set(ctx: Context, dropped: Path) -> None:
    parts = dropped / "parts"
    parts.mkdir()
    for number in (1, 2):
        jsonl(parts / f"{number}.jsonl", ROWS)
    laid = laid_of(way_in.on_path(ctx, str(parts), *NOTHING)[1:])
    assert drafts.on_register(ctx, drafts.PROGRESS, *laid)[1] == "parts"
    assert page.rows.page(ctx, "parts", 0)[3] == 24
    assert len(list(parts.iterdir())) == 2


def test_a_path_that_is_none_says_so(ctx: Context) -> None:
    for typed, told in (("/nowhere/at/all.jsonl", "does not exist on the machine"), (" ", "type the path")):
        problem, *desk = way_in.on_path(ctx, typed, *NOTHING)
        assert 'class="card bad"' in problem
        assert told in problem
        assert desk == [gr.skip()] * len(drafts.lay((), ""))


def test_a_studio_for_others_reads_only_its_own_folders(tmp_path: Path, ctx: Context) -> None:
    settings = Settings(data_dir=ctx.settings.data_dir, saves_dir=tmp_path, host="0.0.0.0", auth=("me", "secret"))
    shared = Context.of(settings)
    problem, *desk = way_in.on_path(shared, "/etc/passwd", *NOTHING)
    assert "upload the file instead" in problem
    assert desk == [gr.skip()] * len(drafts.lay((), ""))
    assert way_in.on_path(shared, str(ctx.settings.data_dir / "identity.json"), *NOTHING)[2]


def test_a_hub_that_cannot_be_reached_says_so(ctx: Context) -> None:
    problem, offers, *hidden = way_in.on_hub("hf", "owner/name")
    assert "offline" in problem.lower()
    assert offers == {}
    assert [update["visible"] for update in hidden] == [False] * 3


def test_the_splits_follow_the_subset() -> None:
    offers = {"small": ["test", "train"], "large": ["validation"]}
    assert way_in.on_subset(offers, "small")["value"] == "train"
    assert way_in.on_subset(offers, "large")["value"] == "validation"


def test_markup_in_data_is_text(ctx: Context, dropped: Path) -> None:
    rows = [{"instruction": EVIL, "output": EVIL}, {"instruction": EVIL, "output": ""}]
    path = jsonl(dropped / "evil.jsonl", rows)
    laid = laid_of(drop(path)[1:])
    sample = drafts.on_mapping(*laid)[1]
    notice = drafts.on_register(ctx, drafts.PROGRESS, *laid)[2]
    for html in (sample, notice, first_rows(ctx, "evil")):
        assert "<script" not in html
        assert "<img" not in html
    assert "&lt;script&gt;" in sample


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("blank.json", b"[]", "is empty"),
        ("binary.json", bytes(range(256)) * 20, "not text"),
        ("broken.json", b'[{"instruction": "a", "output": "b"},\n{"instruction": "c" "output": "d"}]', "row 2: line 2"),
        ("broken.jsonl", b'{"instruction": \n', "row 1"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(ctx: Context, dropped: Path, name: str, data: bytes, told: str) -> None:
    (dropped / name).write_bytes(data)
    before = contents(ctx)
    problem, waiting, opened, *_ = drop(dropped / name)
    assert told in problem
    assert problem.count(name) == 1
    assert (waiting, opened) == ((), "")
    assert contents(ctx) == before


def test_a_bad_file_among_good_ones_is_told_and_the_others_wait(dropped: Path) -> None:
    (dropped / "bad.jsonl").write_bytes(b'{"instruction": \n')
    problem, waiting, *_ = drop(dropped / "bad.jsonl", jsonl(dropped / "good.jsonl", ROWS))
    assert "bad.jsonl" in problem
    assert [draft.name for draft in waiting] == ["good"]


def test_a_full_disk_is_said_and_leaves_nothing_behind(small_disk: Path, dropped: Path) -> None:
    ctx = Context.of(Settings(data_dir=small_disk, saves_dir=dropped))
    (small_disk / "filler").write_bytes(b"x" * 200_000)
    verdict, _, _, _, waiting, *_ = register(ctx, jsonl(dropped / "big.jsonl", ROWS * 400))
    assert "the disk is full" in verdict
    assert [path.name for path in small_disk.rglob("big*")] == []
    assert ctx.registry.names() == []
    assert Path(waiting[0].path).exists(), "the file waits until there is room"


@pytest.mark.parametrize("typed", ["../../outside", "/etc/passwd", "..\\..\\outside", "a/../../outside"])
def test_a_name_never_leaves_the_data_folder(ctx: Context, dropped: Path, typed: str) -> None:
    chosen = register(ctx, jsonl(dropped / "mine.jsonl", ROWS), name=typed)[1]
    assert ctx.registry.file(chosen).parent == ctx.registry.data_dir.resolve()


def test_a_taken_name_gets_a_number(ctx: Context, dropped: Path) -> None:
    assert register(ctx, jsonl(dropped / "identity.jsonl", ROWS))[1] == "identity-2"
    assert ctx.registry.entry("identity").file_name == "identity.json"


def test_an_unknown_shape_waits_for_a_person(ctx: Context, dropped: Path) -> None:
    rows = [{"conv": [{"who": "me", "say": "hi"}, {"who": "you", "say": "hello"}]}] * 3
    path = jsonl(dropped / "odd.jsonl", rows)
    answer = drop(path)[1:]
    assert "Say which column is which" in answer[4]
    verdict, found, *_, button = drafts.on_mapping(*laid_of(answer))
    assert "choose the column for: Question or text" in verdict
    assert "&quot;who&quot;: &quot;me&quot;" in found
    assert button["interactive"] is False
    names = {"role_tag": "who", "content_tag": "say", "user_tag": "me", "assistant_tag": "you"}
    assert register(ctx, path, format="sharegpt", messages="conv", **names)[1] == "odd"
    assert "hello" in first_rows(ctx, "odd")
    assert ctx.registry.entry("odd").tags["role_tag"] == "who"


def test_the_sample_follows_the_mapping(dropped: Path) -> None:
    path = jsonl(dropped / "swap.jsonl", [{"instruction": "left", "output": "right"}] * 3)
    laid = changed(laid_of(drop(path)[1:]), prompt="output", response="instruction")
    _, sample, shell, entry, button = drafts.on_mapping(*laid)
    assert sample.index("right") < sample.index("left")
    assert shell == "python -m studio data add swap.jsonl --name swap.jsonl"
    assert json.loads(entry)["swap"]["columns"]["prompt"] == "output"
    assert button["interactive"] is True


def test_a_mapping_that_no_row_fits_is_refused_with_its_rows(ctx: Context, dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    laid = changed(laid_of(drop(path)[1:]), response="no_such_column")
    assert "has no field" in drafts.on_mapping(*laid)[1]
    verdict, _, _, _, waiting, *_ = drafts.on_register(ctx, drafts.PROGRESS, *laid)
    assert "no row can be used" in verdict
    assert "row 1: has no field &#x27;no_such_column&#x27;" in verdict
    assert "mine" not in ctx.registry.names()
    assert waiting[0].problem
    assert path.exists(), "the file waits, so that the mapping can be corrected"


def test_a_registered_set_is_read_anew(ctx: Context, dropped: Path) -> None:
    register(ctx, jsonl(dropped / "mine.jsonl", [{"instruction": "left", "output": "right"}] * 3))
    before = ctx.registry.file("mine").read_bytes()
    laid = changed(laid_of(page.on_columns(ctx, "mine")), prompt="output", response="instruction")
    verdict, chosen, notice, reread, waiting, *_ = drafts.on_register(ctx, drafts.PROGRESS, *laid)
    assert (verdict, chosen, waiting) == ("", "mine", ())
    assert isinstance(reread, int)  # else nothing says that its rows are to be shown anew
    assert "mine is read anew" in notice
    assert ctx.registry.entry("mine").columns["prompt"] == "output"
    assert first_rows(ctx, "mine").index("right") < first_rows(ctx, "mine").index("left")
    assert ctx.registry.file("mine").read_bytes() == before


def test_pasted_rows_become_a_set(ctx: Context) -> None:
    answer = way_in.on_paste("\n".join(json.dumps(row) for row in ROWS[:2]), *NOTHING)
    laid = laid_of(answer[1:])
    assert laid[2] == "pasted"
    assert drafts.on_register(ctx, drafts.PROGRESS, *changed(laid, name="few"))[1] == "few"
    assert not Path(laid[1]).parent.exists()


def test_a_bad_paste_names_the_row_and_leaves_no_file() -> None:
    problem, waiting, opened, *_ = way_in.on_paste(
        '[{"instruction": "a", "output": "b"},\n{"instruction" "c"}]', *NOTHING
    )
    assert "row 2: line 2" in problem
    assert (waiting, opened) == ((), "")
    assert "paste some rows first" in way_in.on_paste(" ", *NOTHING)[0]


def test_cancel_forgets_the_files(dropped: Path) -> None:
    path = jsonl(dropped / "mine.jsonl", ROWS)
    waiting = drop(path)[1]
    assert drafts.on_cancel(waiting)[:2] == [(), ""]
    assert not path.exists()
    assert drafts.on_cancel(())[:2] == [(), ""]


def test_an_empty_desk_fills_as_much_as_a_full_one(dropped: Path) -> None:
    full = drop(jsonl(dropped / "mine.jsonl", ROWS))[1:]
    assert len(drafts.lay((), "")) == len(full)


@pytest.mark.parametrize("name", ["identity", "alpaca_demo", "sharegpt_demo"])
def test_fields_say_back_what_was_detected(ctx: Context, dropped: Path, name: str) -> None:
    file_name = ctx.registry.entry(name).file_name
    shutil.copy(ctx.registry.data_dir / file_name, dropped / file_name)
    copied = register(ctx, dropped / file_name)[1]
    registry = Registry(ctx.registry.data_dir)
    assert first_rows(ctx, copied) == first_rows(ctx, name)
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
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    path = jsonl(dropped / "chat.jsonl", [{"conversations": turns}])
    laid = changed(laid_of(drop(path)[1:]), role_tag="")
    assert "Key of who speaks" in drafts.on_mapping(*laid)[0]


def test_a_draft_knows_whether_it_is_sure() -> None:
    assert Draft("a.jsonl", "a", confidence=0.9).is_sure
    assert not Draft("a.jsonl", "a", confidence=0.9, problem="the disk is full").is_sure
    assert not Draft("a.jsonl", "a", confidence=0.2).is_sure


def test_a_label_begins_with_a_capital(dropped: Path) -> None:
    row = {"prompt": "Best fruit?", "chosen": "Apples.", "rejected": "Bricks."}
    guess = drafts.read(str(jsonl(dropped / "prefer.jsonl", [row] * 3))).guess
    assert "A choice between answers: question and answer (alpaca)" in guess
