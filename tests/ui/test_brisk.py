"""Gradio's scripts are served in a better version, which finds what theirs finds and tells what theirs tells."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from studio.ui import brisk

# a tree as Gradio has it, asked by both searches before and after parts of it were replaced and removed
COMPARE = """
const leaves = (id) => [1, 2].map((m) => ({ id: id * 10 + m }));
const root = { id: 1, children: [11, 12, 13].map((id) => ({ id, children: leaves(id) })) };
const asked = [1, 11, 12, 13, 111, 112, 122, 132, 999, 141];
const old = () => asked.map((id) => plain(root, id)), better = () => asked.map((id) => quick(root, id));
const same = () => old().every((node, at) => node === better()[at]);
const seen = [same(), same()];
root.children[1] = { id: 14, children: [{ id: 141 }, { id: 122 }] };
seen.push(same());
root.children.shift();
seen.push(same());
root.children[0].children = undefined;
seen.push(same());
console.log(JSON.stringify(seen));
"""
TELL = """
class Page { constructor() { this.loading_stati = { current: {} }; this.told = []; }
  update_state_cb(id, { loading_status }) { this.told.push([id, loading_status.status]); } METHOD }
const page = new Page(), { current } = page.loading_stati;
(async () => {
  current[1] = { status: "pending" }; current[2] = { status: "pending" };
  await page.update_loading_stati_state();
  current[1] = { status: "generating" }; current[2] = { status: "pending" };
  await page.update_loading_stati_state();
  await page.update_loading_stati_state();
  current[2] = {};
  await page.update_loading_stati_state();
  console.log(JSON.stringify(page.told));
})();
"""


def run(script: str) -> object:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: `make system` installs it")
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_installed_gradio_has_both_places() -> None:
    found = brisk.scripts()
    assert sorted(name.partition("-")[0] for name in found) == ["Blocks", "core"]
    for name, text in found.items():
        assert text != (brisk.SCRIPTS / name).read_text(encoding="utf-8")
        assert sum(new in text for new in brisk.BETTER.values()) == (2 if name.startswith("Blocks") else 1)


def test_both_searches_find_the_same() -> None:
    plain = brisk.SEARCH.replace("Z(", "plain(")
    quick = brisk.REMEMBER.replace("Z(", "quick(")
    assert run(plain + "\n" + quick + COMPARE) == [True] * 5


def test_only_what_has_changed_is_told() -> None:
    first, changed, cleared = [[1, "pending"], [2, "pending"]], [[1, "generating"]], [[2, None]]
    assert run(TELL.replace("METHOD", brisk.TELL_CHANGED)) == [*first, *changed, *cleared]


def test_another_gradio_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "core-0.js").write_text("function Y(e,t){return e.find(t)}")
    (tmp_path / "Blocks-0.js").write_text(brisk.TELL_ALL * 2)
    assert brisk.scripts(tmp_path) == {}


def test_they_are_served_in_the_place_of_gradios() -> None:
    app = FastAPI()
    brisk.serve(app)
    for name, text in brisk.scripts().items():
        answer = TestClient(app).get(f"/assets/{name}")
        assert answer.text == text
        assert answer.headers["content-type"].startswith("text/javascript")
