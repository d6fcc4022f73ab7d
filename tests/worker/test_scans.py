"""What libraries look up in files is kept, and is what they would find now."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import import_utils

from studio.worker import scans

READ = import_utils.create_import_structure_from_path
MODELS = Path(import_utils.__file__).parent.parent / "models"
ONE = '__all__ = ["OneConfig"]\n'
TWO = '__all__ = ["OneConfig", "TwoConfig"]\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(importlib.metadata, "packages_distributions", importlib.metadata.packages_distributions)
    scans._models.cache_clear()
    return tmp_path / "cache" / "seedbed" / "imports"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Models like those of transformers: one, which needs torch besides."""
    folder = tmp_path / "transformers" / "models"
    (folder / "one").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "one" / "configuration_one.py").write_text(ONE)
    (folder / "one" / "modeling_one.py").write_text('__all__ = ["OneModel"]\n')
    return folder


def read(models: Path) -> Any:
    """As a new process would."""
    scans._models.cache_clear()
    READ.cache_clear()
    return scans._structure(READ, models)


def unreadable(_: object) -> Any:
    raise AssertionError("it was read again")


@pytest.mark.parametrize("path", [MODELS, str(MODELS / "__init__.py")], ids=["folder", "file"])
def test_the_models_of_transformers_are_those_that_it_finds(path: Any) -> None:
    found = READ(path)
    assert len(found) > 300
    for reader in (READ, unreadable):
        assert scans._structure(reader, path) == found
        assert import_utils.spread_import_structure(scans._structure(reader, path)) == (
            import_utils.spread_import_structure(found)
        )


def test_a_part_of_it_is_read_as_ever(home: Path) -> None:
    assert scans._structure(READ, MODELS / "llama") == READ(MODELS / "llama")
    assert not home.exists()


def test_a_file_that_changes_comes_or_goes_is_read(models: Path) -> None:
    first = read(models)
    assert first["one"][frozenset({"torch"})] == {"modeling_one": {"OneModel"}}
    assert first["one"][frozenset()] == {"configuration_one": {"OneConfig"}}
    assert scans._structure(unreadable, models) == first
    (models / "one" / "configuration_one.py").write_text(TWO)
    assert read(models)["one"][frozenset()] == {"configuration_one": {"OneConfig", "TwoConfig"}}
    (models / "two").mkdir()
    (models / "two" / "configuration_two.py").write_text(ONE)
    assert list(read(models)["two"].values()) == [{"configuration_two": {"OneConfig"}}]
    (models / "one" / "modeling_one.py").unlink()
    assert list(read(models)["one"]) == [frozenset()]


@pytest.mark.parametrize("harm", ["", "{", "[]", "null", '{"found": {}}', '{"state": null, "found": {}}'])
def test_what_is_kept_may_be_damaged(models: Path, home: Path, harm: str) -> None:
    first = read(models)
    (home / "models.json").write_text(harm)
    assert read(models) == first
    assert json.loads((home / "models.json").read_text())["found"]


def test_a_disk_that_takes_nothing_is_no_fault(models: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(models)
    (home / "models.json").unlink()
    home.rmdir()
    home.write_text("a file in its place")
    assert read(models) == first
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", _homeless)
    assert read(models) == first


def _homeless(_: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_distributions_are_those_that_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = importlib.metadata.packages_distributions
    assert scans._distributions(scan) == json.loads(json.dumps(scan()))
    assert scans._distributions(lambda: unreadable(None)) == scan()
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    assert "another" not in scans._distributions(scan)
    about = place / "Another-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: Another\nVersion: 1\n")
    (about / "top_level.txt").write_text("another\n")
    assert scans._distributions(scan)["another"] == ["Another"]


SCRIPT = """
from studio.worker import imports
imports.trim()
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config
from transformers.utils import import_utils
print(LlamaForCausalLM.__module__, import_utils.create_import_structure_from_path.__wrapped__.func.__module__)
"""


def test_processes_take_what_the_first_one_kept(home: Path) -> None:
    expected = "transformers.models.llama.modeling_llama studio.worker.scans"
    for _ in range(2):
        told = subprocess.run([sys.executable, "-c", SCRIPT], env=os.environ, capture_output=True, text=True)
        assert told.stdout.strip() == expected, told.stderr
        assert sorted(path.name for path in home.iterdir()) == ["distributions.json", "models.json"]
        for path in home.iterdir():
            os.utime(path, ns=(1, 1))
    assert {path.stat().st_mtime_ns for path in home.iterdir()} == {1}
