"""What the cards of a run say."""

from __future__ import annotations

from pathlib import Path

from studio.config.merge import MergeConfig
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.files import write_json
from studio.runs.store import Store
from studio.ui import cards


def test_a_run_without_an_output_has_no_place_to_show(tmp_path: Path) -> None:
    run = Store(tmp_path).create(ServeConfig())
    write_json(run.path / "result.json", {"stopped": True})
    assert cards.outcome(run) == ""
    write_json(run.path / "result.json", {"stopped": True, "gpu_freed": True, "before_gb": 0.5, "after_gb": 0.6})
    assert "0.6" in cards.outcome(run)
    assert "None" not in cards.outcome(run)


def test_an_output_is_shown_with_its_place(tmp_path: Path) -> None:
    run = Store(tmp_path).create(MergeConfig(adapter_name_or_path="a"))
    write_json(run.path / "result.json", {"output": "model"})
    assert str(run.path / "model") in cards.outcome(run)
    assert "Download" not in cards.outcome(run)
    (run.path / "model").mkdir()
    assert f'href="seedbed/zip/{run.id}"' in cards.outcome(run)


def test_the_way_each_part_is_computed_is_told_from_the_first_lines_on(tmp_path: Path) -> None:
    run = Store(tmp_path).create(TrainConfig(dataset=("a",)))
    assert cards.paths(run) == ""
    run.log.write_text("[loading model]\ncomputed by attention: sdpa (<b> is not)\ncomputed by kernels: plain\n")
    told = cards.paths(run)
    assert "attention <b>sdpa (&lt;b&gt; is not)</b>" in told
    assert "kernels <b>plain</b>" in told
    assert "loading" not in told
