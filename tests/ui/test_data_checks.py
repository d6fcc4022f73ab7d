"""Handlers of the findings panel, called as the page calls them; checks and repairs run in processes of their own."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from studio.errors import ConfigError, DatasetError
from studio.ui.context import Context
from studio.ui.tabs import data_checks

ROWS: list[dict[str, Any]] = [
    *({"instruction": f"Who is number {n}?", "output": f"A person called {n}."} for n in range(8)),
    {"instruction": "Who is empty?", "output": ""},
    {"instruction": "Who is missing?"},
]


@pytest.fixture
def faulty(ctx: Context) -> str:
    (ctx.registry.data_dir / "faulty.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    known = json.loads(ctx.registry.path.read_text())
    ctx.registry.path.write_text(json.dumps({**known, "faulty": {"file_name": "faulty.jsonl"}}))
    return "faulty"


def wait(ctx: Context, run_id: str, limit_s: float = 90) -> None:
    run, deadline = ctx.store.get(run_id), time.monotonic() + limit_s
    while run.is_active:
        assert time.monotonic() < deadline, run.log.read_text()
        time.sleep(0.1)
    assert run.state == "completed", run.reason


def look(ctx: Context, name: str) -> dict[str, Any]:
    answer = data_checks.on_look(ctx, name, "")
    assert answer is not None
    return answer


def started(answer: Any) -> str:
    assert answer is not None
    return str(answer["run"])


def test_before_and_after_a_check(ctx: Context, faulty: str) -> None:
    before = look(ctx, faulty)
    assert (before["report"], before["busy"]) == (None, False)
    assert data_checks.on_look(ctx, faulty, before["stamp"]) is None
    wait(ctx, started(data_checks.on_check(ctx, faulty, None)))
    report = look(ctx, faulty)["report"]
    assert (report["rows"], report["usable"]) == (10, 8)
    found = {finding["code"]: finding for finding in report["findings"]}
    assert found["empty_field"]["rows"] == (9,)
    assert found["missing_field"]["severity"] == "warning"
    assert found["missing_field"]["zh"]["title"] == "缺少字段"
    assert [name for name, *_ in report["repairs"]] == ["drop_faulty"]


def test_a_repair_writes_a_new_set_and_leaves_the_old_one(ctx: Context, faulty: str) -> None:
    before = (ctx.registry.data_dir / "faulty.jsonl").read_bytes()
    wait(ctx, started(data_checks.on_repair(ctx, faulty, ["drop_faulty"])))
    assert "faulty-repaired" in ctx.registry.names()
    rows = ctx.registry.file("faulty-repaired").read_text().splitlines()
    assert [json.loads(row) for row in rows] == ROWS[:8]
    assert (ctx.registry.data_dir / "faulty.jsonl").read_bytes() == before
    assert look(ctx, "faulty-repaired")["report"]["usable"] == 8, "the new set is checked before it is opened"


def test_near_duplicates_are_searched_and_left_out_from_the_share_that_was_asked_for(ctx: Context, faulty: str) -> None:
    path, text = ctx.registry.file(faulty), "The fern grows slowly beside the old garden wall, "
    answers = [text * 4 + "in the shade.", text * 4 + "in the bright sun of the south."]
    path.write_text("".join(json.dumps({"instruction": "Where?", "output": answer}) + "\n" for answer in answers))
    assert look(ctx, faulty)["share"] == 0.85
    found = {}
    for share in (1.0, 0.3):
        wait(ctx, started(data_checks.on_check(ctx, faulty, share)))
        seen = look(ctx, faulty)
        assert seen["share"] == seen["report"]["near_duplicate_threshold"] == share
        found[share] = [finding["code"] for finding in seen["report"]["findings"]]
    assert "near_duplicates" not in found[1.0]
    assert "near_duplicates" in found[0.3]
    wait(ctx, started(data_checks.on_repair(ctx, faulty, ["drop_near_duplicates"])))
    assert len(ctx.registry.file("faulty-repaired").read_text().splitlines()) == 1
    with pytest.raises(ConfigError, match="near_duplicate_threshold"):
        data_checks.on_check(ctx, faulty, 0)


def test_a_double_click_checks_once(ctx: Context, faulty: str) -> None:
    runs = {started(data_checks.on_check(ctx, faulty, None)) for _ in range(2)}
    assert len(runs) == 1
    wait(ctx, runs.pop())


def test_what_the_page_must_not_ask(ctx: Context) -> None:
    with pytest.raises(DatasetError, match="nope"):
        data_checks.on_look(ctx, "nope", "")
    with pytest.raises(ConfigError, match="repairs"):
        data_checks.on_repair(ctx, "identity", [])
    assert ctx.store.list() == []
