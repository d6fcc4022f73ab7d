"""What a checkpoint is made of, and how damage to it is found."""

import json
import os
import struct
import zipfile
from dataclasses import replace

import pytest

from studio.config.train import TrainConfig
from studio.errors import Cancelled
from studio.runs import checkpoints
from studio.runs.checkpoints import Manifest
from studio.runs.store import Store
from tests.checkpoints import make_checkpoint


@pytest.fixture
def folder(tmp_path):
    return make_checkpoint(tmp_path / "checkpoint-20", 20)


def test_a_manifest_names_every_other_file_with_its_size(folder):
    manifest = Manifest.read(folder)
    assert set(manifest.files) == {"trainer_state.json", "model.safetensors", "deep/rng.pth"}
    assert manifest.bytes == sum((folder / name).stat().st_size for name in manifest.files)
    assert (manifest.step, manifest.world_size, manifest.batch) == (20, 1, 16)


def test_a_manifest_is_read_as_it_was_written(folder, tmp_path):
    manifest = replace(Manifest.read(folder), strategy="zero3", data={"demo": "12ab"})
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_a_whole_checkpoint_has_no_problem(folder):
    assert checkpoints.verify(folder) == checkpoints.verify(folder, deep=True) == []


def test_files_that_came_later_are_no_damage(folder):
    (folder / "README.md").write_text("merged from here")
    assert checkpoints.verify(folder, deep=True) == []


@pytest.mark.parametrize("deep", [False, True])
def test_a_file_that_is_gone_or_cut_is_named(folder, deep):
    (folder / "deep/rng.pth").unlink()
    os.truncate(folder / "model.safetensors", 5)
    assert checkpoints.verify(folder, deep) == ["deep/rng.pth is missing", "model.safetensors has 5 bytes of 23"]


def test_one_changed_bit_is_found_by_reading_everything(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[7] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert checkpoints.verify(folder) == []
    [problem] = checkpoints.verify(folder, deep=True)
    assert problem == "model.safetensors was altered: its contents are not those that were written"


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 3}', '{"files": {"a": {"bytes": 1}}}'], ids=range(4))
def test_a_manifest_that_says_nothing_is_damage(folder, text):
    (folder / "manifest.json").write_text(text)
    [problem] = checkpoints.verify(folder)
    assert str(folder / "manifest.json") in problem


def test_reading_tells_how_far_it_is_and_can_be_stopped(folder):
    (folder / "more.bin").write_bytes(os.urandom(9_000_000))
    digests = checkpoints.hashes(folder, checkpoints.files_of(folder))
    files = {name: checkpoints.File((folder / name).stat().st_size, digest) for name, digest in digests.items()}
    replace(Manifest.read(folder), files=files).write(folder)
    told = []
    assert checkpoints.verify(folder, deep=True, progress=lambda done, total: told.append((done, total))) == []
    assert max(told) == (Manifest.read(folder).bytes, Manifest.read(folder).bytes)
    assert len(told) > len(files)
    with pytest.raises(Cancelled):
        checkpoints.verify(folder, deep=True, cancelled=lambda: True)


@pytest.fixture
def old(tmp_path):
    """A checkpoint of a version without manifests."""
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 3}')
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    for name in ("optimizer.pt", "scheduler.pt"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("data", "x")
    return folder


def test_a_checkpoint_of_an_older_version_is_judged_by_its_form(old):
    assert checkpoints.verify(old, deep=True) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("trainer_state.json", "trainer_state.json is missing or says no step"),
        ("model.safetensors", "the weights are missing"),
        ("optimizer.pt", "optimizer.pt is missing or incomplete"),
        ("scheduler.pt", "scheduler.pt is missing or incomplete"),
    ],
    ids=["state", "weights", "optimizer", "scheduler"],
)
def test_an_older_one_without_a_file_is_damaged(old, name, problem):
    (old / name).unlink()
    assert checkpoints.verify(old) == [problem]


def test_an_older_one_with_cut_weights_is_damaged(old):
    os.truncate(old / "model.safetensors", 60)
    [problem] = checkpoints.verify(old)
    assert "model.safetensors is damaged" in problem


def test_all_checkpoints_of_a_run_are_listed_with_what_is_wrong(tmp_path):
    run = Store(tmp_path).create(TrainConfig(dataset="identity"))
    for step in (2, 10, 4):
        make_checkpoint(run.path / f"checkpoints/checkpoint-{step}", step, best_global_step=4)
    (run.path / "checkpoints/checkpoint-10/model.safetensors").unlink()
    first, second, third = checkpoints.listed(run)
    assert [each.step for each in (first, second, third)] == [2, 4, 10]
    assert [each.is_best for each in (first, second, third)] == [False, True, False]
    assert [each.is_complete for each in (first, second, third)] == [True, True, False]
    assert third.problem == "model.safetensors is missing"
    assert first.bytes == first.manifest.bytes > 0
