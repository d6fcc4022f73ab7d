"""Encoded rows on disk: the same rows however they are made, shared, and made anew when damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import DatasetError
from studio.worker import prepared as store
from studio.worker.pool import Tokens
from studio.worker.prepared import Figures, Hooks, Prepared, Recipe, prepare
from studio.worker.rows import Part, Source
from tests.worker.conftest import register

QUIET = Hooks(lambda done, total: None, lambda: None)


def alpaca(count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"instruction": f"What is {n}?", "input": "", "output": f"It is {n}. " * (n % 7 + 1)} for n in range(count)
    ]
    return [{**row, "output": None} if n % 50 == 49 else row for n, row in enumerate(rows)]


@pytest.fixture
def recipe(tmp_path: Path, tokenizer_dir: Path) -> Recipe:
    return recipe_of(register(tmp_path / "data", demo=alpaca(900)), tokenizer_dir)


def recipe_of(data_dir: Path, tokenizer_dir: Path, **keys: Any) -> Recipe:
    config = parse(TrainConfig, {"dataset": ["demo"], "dataset_dir": str(data_dir), "cutoff_len": 64, **keys})
    return Recipe(Source.of(config, Registry(data_dir), "demo"), Tokens(tokenizer_dir), Masking.of(config))


def prepared(recipe: Recipe, cache: Path, hooks: Hooks = QUIET, **options: Any) -> Prepared:
    return prepare(recipe, cache, recipe.source.path.parent / ".cache", hooks, **options)


def ids(made: Prepared) -> list[list[int]]:
    return [row for path in made.files for row in Dataset.from_file(str(path))["input_ids"]]


def test_rows_are_those_that_are_encoded(recipe: Recipe, tmp_path: Path) -> None:
    made, figures = prepared(recipe, tmp_path / "cache"), Figures()
    rows = list(recipe.rows(Part(), figures))
    assert ids(made) == [row.input_ids for row in rows]
    labels = [row for path in made.files for row in Dataset.from_file(str(path))["labels"]]
    assert labels == [row.labels for row in rows]
    assert made.figures == figures
    assert (figures.rows, figures.faults) == (882, 18)
    assert figures.first_fault.startswith("row 50 ")
    assert 0 < figures.cut < 882


def test_several_processes_make_the_same(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = prepared(recipe, tmp_path / "alone")
    for name, value in {"studio.worker.pool.LEAST_BYTES": 1000, "studio.worker.prepared.PART_ROWS": 100}.items():
        monkeypatch.setattr(name, value)
    monkeypatch.setattr("studio.datasets.reading.mark.MARK_BYTES", 4096)
    shutil.rmtree(recipe.source.path.parent / ".cache", ignore_errors=True)
    together = prepared(recipe, tmp_path / "together", processes=2)
    assert len(together.files) > 3
    assert ids(together) == ids(alone)
    assert together.figures == alone.figures


def test_what_is_there_is_taken(recipe: Recipe, tmp_path: Path) -> None:
    first = prepared(recipe, tmp_path / "cache")
    [before] = [path.stat().st_mtime_ns for path in first.files]
    assert prepared(recipe, tmp_path / "cache") == first
    assert [path.stat().st_mtime_ns for path in first.files] == [before]
    prepared(recipe, tmp_path / "cache", anew=True)
    assert [path.stat().st_mtime_ns for path in first.files] != [before]


def test_whatever_decides_the_rows_decides_their_place(recipe: Recipe, tokenizer_dir: Path, tmp_path: Path) -> None:
    data_dir, seen = recipe.source.path.parent, {recipe.fingerprint}
    for keys in ({"cutoff_len": 65}, {"max_samples": 3}, {"train_on_prompt": True}, {"model_name": "Sprout"}):
        seen.add(recipe_of(data_dir, tokenizer_dir, **keys).fingerprint)
    assert recipe_of(data_dir, tokenizer_dir, seed=7, learning_rate=1.0).fingerprint == recipe.fingerprint
    other = shutil.copytree(tokenizer_dir, tmp_path / "tokenizer")
    seen.add(replace(recipe, tokens=Tokens(other)).fingerprint)
    (other / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    seen.add(replace(recipe, tokens=Tokens(other)).fingerprint)
    recipe.source.path.write_text(json.dumps(alpaca(10)))
    seen.add(recipe.fingerprint)
    assert len(seen) == 8


def truncate(folder: Path) -> None:
    os.truncate(folder / "all.arrow", 100)


def zero(folder: Path) -> None:
    path = folder / "all.arrow"
    path.write_bytes(bytes(path.stat().st_size))


def cut_figures(folder: Path) -> None:
    (folder / "figures.json").write_text('{"files": [["all.arr')


def lose_rows(folder: Path) -> None:
    record = json.loads((folder / "figures.json").read_text())
    record["files"][0][1] += 1
    (folder / "figures.json").write_text(json.dumps(record))


def lose_file(folder: Path) -> None:
    (folder / "all.arrow").unlink()


@pytest.mark.parametrize("damage", [truncate, zero, cut_figures, lose_rows, lose_file])
def test_what_is_damaged_is_made_anew(recipe: Recipe, tmp_path: Path, damage: Any) -> None:
    expected = ids(prepared(recipe, tmp_path / "cache"))
    damage(tmp_path / "cache" / recipe.fingerprint)
    assert ids(prepared(recipe, tmp_path / "cache")) == expected


def test_half_written_rows_are_never_taken(recipe: Recipe, tmp_path: Path) -> None:
    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(recipe, tmp_path / "cache", Hooks(give_up, lambda: None))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_two_at_once_make_them_once(recipe: Recipe, tmp_path: Path) -> None:
    waited, made, begun = list[int](), list[Prepared](), threading.Event()

    def slowly(done: int, total: int) -> None:
        begun.set()
        time.sleep(0.3)

    first = threading.Thread(target=lambda: made.append(prepared(recipe, tmp_path / "cache", Hooks(slowly, list))))
    first.start()
    begun.wait(30)
    made.append(prepared(recipe, tmp_path / "cache", Hooks(pytest.fail, lambda: waited.append(1))))
    first.join()
    assert waited == [1]
    assert made[0] == made[1]


def hold(place: Path, held: Any) -> None:
    with store._locked(place, pytest.fail):
        held.set()
        time.sleep(60)


def test_a_killed_run_holds_nobody_up(recipe: Recipe, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "cache" / recipe.fingerprint, held))
    process.start()
    assert held.wait(60)
    (tmp_path / "cache" / f"{recipe.fingerprint}.draft").mkdir()
    threading.Timer(0.3, process.kill).start()
    waited = list[int]()
    made = prepared(recipe, tmp_path / "cache", Hooks(lambda done, total: None, lambda: waited.append(1)))
    process.join()
    assert waited == [1]
    assert made.figures.rows == 882


def test_the_oldest_make_room(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, folders = tmp_path / "cache", []
    for number, cutoff in enumerate((40, 41, 42)):
        made = replace(recipe, masking=Masking(cutoff))
        prepared(made, cache)
        folders.append(cache / made.fingerprint)
        os.utime(folders[-1], (number, number))
    opened = Dataset.from_file(str(folders[0] / "all.arrow"))
    size = sum(path.stat().st_size for path in folders[0].iterdir())
    monkeypatch.setattr(store, "LIMIT_BYTES", int(2.5 * size))
    prepared(recipe, cache)
    assert [folder.exists() for folder in folders] == [False, False, True]
    assert len(opened[0]["input_ids"]) > 10


def test_no_room_is_said(recipe: Recipe, small_disk: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be kept in .*No space left.*make room"):
        prepared(recipe, small_disk / "cache")
    assert not list((small_disk / "cache").glob("*/figures.json"))


def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, tokenizer_dir: Path) -> None:
    data_dir = register(tmp_path / "data", demo=[])
    (data_dir / "demo.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "outp\n')
    (data_dir / "dataset_info.json").write_text(json.dumps({"demo": {"file_name": "demo.jsonl"}}))
    with pytest.raises(DatasetError, match="dataset demo, row 2"):
        prepared(recipe_of(data_dir, tokenizer_dir), tmp_path / "cache")


def test_only_so_many_usable_rows_are_taken(tmp_path: Path, tokenizer_dir: Path) -> None:
    recipe = recipe_of(register(tmp_path / "data", demo=alpaca(900)), tokenizer_dir, max_samples=100)
    assert prepared(recipe, tmp_path / "cache").figures.rows == 100
