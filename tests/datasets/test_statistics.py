"""Statistics as values: what follows from the figures, how they are kept, and when they no longer count."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.config.data import DataConfig
from studio.config.load import parse
from studio.datasets import statistics
from studio.datasets.registry import Registry
from studio.datasets.statistics import Statistics, above, keep, percentile, stored
from studio.models import BUNDLED, resolve

FIGURES = Statistics(
    dataset="demo",
    model="seedling",
    cutoff_len=10,
    rows=200,
    rows_read=50,
    rows_measured=48,
    untrained=3,
    tools_left_out=0,
    tokens=500,
    trained=250,
    kept_rows=40,
    kept_tokens=400,
    kept_trained=200,
    packed_sequences=45,
    lengths=((4, 20), (9, 10), (12, 18)),
    first_trained=((2, 40), (11, 5)),
    prompt_lengths=((2, 48),),
    response_lengths=((7, 48),),
    turns=((2, 48),),
    languages=(("en", 40), ("zh", 8)),
    languages_read=48,
    sightings=(("too_long", 18, (1, 2), ("row 1 has 12 tokens, 2 too many",)),),
    seconds=1.5,
)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "demo.json").write_text('[{"instruction": "a", "output": "b"}]')
    (tmp_path / "dataset_info.json").write_text('{"demo": {"file_name": "demo.json"}}')
    return Registry(tmp_path)


def config(**keys: Any) -> DataConfig:
    return parse(DataConfig, {"action": "statistics", "dataset": ["demo"], "model_name_or_path": BUNDLED, **keys})


def test_what_follows_from_the_figures() -> None:
    assert FIGURES.is_sample
    assert FIGURES.scale == 4
    assert FIGURES.too_long == 18
    assert FIGURES.dropped == 5
    assert FIGURES.trained_share == 0.5
    assert FIGURES.packing_efficiency == pytest.approx(400 / 450)
    assert FIGURES.tokens_per_epoch == 1600
    assert FIGURES.steps_per_epoch(4, 2, packing=False) == 20
    assert FIGURES.steps_per_epoch(4, 2, packing=True) == 23


def test_histograms_are_read() -> None:
    assert above(FIGURES.lengths, 9) == 18
    assert [percentile(FIGURES.lengths, share) for share in (0, 0.4, 0.5, 0.99, 1)] == [4, 4, 9, 12, 12]
    assert percentile((), 0.5) == 0


def test_findings_are_told_as_a_check_tells_them() -> None:
    [finding] = statistics.findings(FIGURES)
    assert (finding.code, finding.severity, finding.count) == ("too_long", "warning", 18)
    assert finding.examples == ("row 1 has 12 tokens, 2 too many",)


def test_they_survive_json() -> None:
    assert Statistics.from_json(json.loads(json.dumps(FIGURES.to_json()))) == FIGURES


def test_what_is_kept_is_found_for_the_same_question(registry: Registry) -> None:
    assert stored(registry, config()) is None
    keep(registry, config(), FIGURES)
    assert stored(registry, config()) == FIGURES
    assert stored(registry, config(seed=1)) == FIGURES


CHANGES: list[Callable[[Path], Any]] = [
    lambda folder: (folder / "demo.json").write_text('[{"instruction": "a", "output": "c"}]'),
    lambda folder: (folder / "dataset_info.json").write_text('{"demo": {"file_name": "demo.json", "num_samples": 1}}'),
]


@pytest.mark.parametrize("change", CHANGES, ids=["file", "entry"])
def test_changed_data_is_another_question(registry: Registry, change: Callable[[Path], Any]) -> None:
    keep(registry, config(), FIGURES)
    change(registry.data_dir)
    assert stored(registry, config()) is None


def test_they_go_with_the_set(registry: Registry) -> None:
    keep(registry, config(), FIGURES)
    assert list(registry.cache_dir.glob("statistics-*.json"))
    registry.remove("demo")
    assert not list(registry.cache_dir.glob("statistics-*.json"))


@pytest.mark.parametrize(
    "key",
    [
        {"cutoff_len": 99},
        {"mask_history": True},
        {"train_on_prompt": True},
        {"default_system": "Be kind."},
        {"template": "qwen3"},
        {"enable_thinking": False},
    ],
    ids=str,
)
def test_other_settings_are_another_question(registry: Registry, key: dict[str, Any]) -> None:
    keep(registry, config(), FIGURES)
    assert stored(registry, config(**key)) is None


def test_another_template_is_another_question(registry: Registry, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in Path(resolve(BUNDLED)).glob("*token*"):
        os.link(path, model / path.name)
    (model / "chat_template.jinja").write_text("one")
    keep(registry, config(model_name_or_path=str(model)), FIGURES)
    assert stored(registry, config(model_name_or_path=str(model)))
    (model / "chat_template.jinja").write_text("other")
    assert stored(registry, config(model_name_or_path=str(model))) is None


def test_a_damaged_record_counts_as_none(registry: Registry) -> None:
    keep(registry, config(), FIGURES)
    [place] = registry.cache_dir.glob("statistics-*")
    for text in ("", "{", '{"rows": 1}', "[]", '{"lengths": 5}'):
        place.write_text(text)
        assert stored(registry, config()) is None


def test_a_model_that_is_not_here_has_none(registry: Registry, tmp_path: Path) -> None:
    assert stored(registry, config(model_name_or_path=str(tmp_path / "absent"))) is None
    assert stored(registry, config(model_name_or_path="nobody/never-downloaded")) is None
