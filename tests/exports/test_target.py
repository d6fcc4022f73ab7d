"""What may be replaced by a result, and what a person would miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.exports.target import objections

MODEL = ("config.json", "model.safetensors", "tokenizer.json", "vocab.json", "chat_template.jinja", "README.md")


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("{}")
    return path


def test_a_model_is_replaced_when_asked(tmp_path: Path) -> None:
    target = _folder(tmp_path / "target", *MODEL)
    assert list(objections(target, overwrite=True)) == []
    assert "set overwrite_output_dir: true" in next(objections(target, overwrite=False))


@pytest.mark.parametrize("name", ["thesis.docx", "optimizer.pt", "trainer_state.json", "model-Q4_K_M.gguf"])
def test_files_that_no_merge_writes_are_kept(tmp_path: Path, name: str) -> None:
    target = _folder(tmp_path / "target", *MODEL, name)
    assert f"holds {name} and is no model folder" in next(objections(target, overwrite=True))


def test_the_root_of_the_disk_is_no_target() -> None:
    assert any("holds no config.json" in what for what in objections(Path("/"), overwrite=True))


@pytest.mark.parametrize("place", ["base", ".", "base/merged", "link"])
def test_what_is_merged_is_never_replaced(tmp_path: Path, place: str) -> None:
    base = _folder(tmp_path / "base", *MODEL)
    (tmp_path / "link").symlink_to(base)
    assert "choose another folder" in next(objections(tmp_path / place, overwrite=True, spared=[base]))
