"""python -m studio serve, as far as no server is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.cli import runs, serve
from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.files import write_json
from studio.runs import launchers
from studio.runs.run import Run
from studio.runs.store import Store
from tests.serving.conftest import wait_until


@pytest.fixture
def on_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run of kind serve on Transformers that is starting for ever."""
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path))
    monkeypatch.setitem(launchers.WORKERS, "serve", "tests.fakes.worker")
    run = Store(tmp_path).create(ServeConfig(infer_backend="huggingface"))
    write_json(run.path / "fake.json", [["heed"]])
    launchers.start(run)
    wait_until(lambda: run.process_alive("worker"), 10)
    yield run
    run.stop_now()
    wait_until(lambda: not run.is_active, 10)


def test_a_server_saves_nothing_when_it_is_stopped(on_transformers: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main(["stop", on_transformers.id]) == 0
    assert capsys.readouterr().out == f"{on_transformers.id}: stopping\n"


def test_another_server_is_not_taken_for_the_one_that_was_asked_for(on_transformers: Run) -> None:
    """Its options would be ignored silently."""
    for words in (["seedling", "max_num_seqs=4"], ["infer_backend=huggingface", "--port", "8080"]):
        with pytest.raises(ServingError, match=f"{on_transformers.id} is starting to serve that model already"):
            serve.main(words)
