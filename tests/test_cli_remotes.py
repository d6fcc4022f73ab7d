"""The remotes command: servers elsewhere, listed, added, forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.cli.front import main


@pytest.fixture(autouse=True)
def saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path))
    return tmp_path


def test_a_server_comes_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remotes"]) == 0
    assert "No servers yet" in capsys.readouterr().out
    assert main(["remotes", "add", "fox", "http://127.0.0.1:9/v1", "fox-1b"]) == 0
    assert "studio chat url:fox" in capsys.readouterr().out
    assert main(["remotes"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["url:fox", "http://127.0.0.1:9", "fox-1b", "none"]
    assert main(["remotes", "probe", "fox"]) == 1
    assert "No model server answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert main(["remotes", "remove", "fox"]) == 0
    assert main(["remotes", "remove", "fox"]) == 1
    assert "no remote server called 'fox'" in capsys.readouterr().err


def test_a_key_is_neither_kept_nor_repeated(saves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remotes", "add", "fox", "http://a", "fox-1b", "--key-env", "hf_4711"]) == 2
    assert "4711" not in "".join(capsys.readouterr())
    assert not list(saves.iterdir())
