"""Which rows calibrate and which are held out, from real sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.config.load import parse
from studio.config.quantize import QuantizeConfig
from studio.config.train import TrainConfig
from studio.errors import DatasetError
from studio.settings import ROOT
from studio.worker import tokenizer as tokenizers
from studio.worker.quantizing.texts import Names, Texts, draw
from tests.worker.conftest import register
from tests.worker.quantizing.conftest import ROWS


def drawn(folder: Path, data_dir: Path, **keys: Any) -> Texts:
    given = {"model_name_or_path": str(folder), "export_quantization_dataset": "sums", "dataset_dir": str(data_dir)}
    config = parse(QuantizeConfig, {**given, **keys})
    tokenizer = tokenizers.load(folder, trust_remote_code=False)
    return draw(config, folder, tokenizer, Names.of(TrainConfig(model_name="Sprout"), folder))


def texts_of(rows: Any) -> set[tuple[int, ...]]:
    return {tuple(row.input_ids) for row in rows}


def test_no_row_both_calibrates_and_measures(tiny_model: Path, sums: Path) -> None:
    found = drawn(tiny_model, sums, export_quantization_nsamples=40, eval_samples=20)
    assert (len(found.calibration), len(found.held)) == (40, 20)
    assert not texts_of(found.calibration) & texts_of(found.held)
    assert all(0 < row.trained < len(row.input_ids) for row in found.held)


def test_the_seed_decides_which(tiny_model: Path, sums: Path) -> None:
    first, again, other = (drawn(tiny_model, sums, seed=seed, eval_samples=20) for seed in (1, 1, 2))
    assert first == again
    assert first.held != other.held


def test_a_small_set_is_shared_out(tiny_model: Path, sums: Path) -> None:
    found = drawn(tiny_model, sums, export_quantization_nsamples=1000, eval_samples=1000)
    assert (len(found.calibration), len(found.held)) == (len(ROWS) - len(ROWS) // 5, len(ROWS) // 5)


def test_another_set_can_measure(tiny_model: Path, tmp_path: Path) -> None:
    other = [{"instruction": f"Who is {n}?", "input": "", "output": "Nobody."} for n in range(7)]
    folder = register(tmp_path / "data", sums=ROWS, other=other)
    found = drawn(tiny_model, folder, eval_dataset="other", export_quantization_nsamples=30)
    assert (len(found.calibration), len(found.held)) == (30, 7)


def test_what_looks_at_no_text_holds_all_of_them_out(tiny_model: Path, sums: Path) -> None:
    found = drawn(tiny_model, sums, export_quantization_method="rtn", eval_samples=50)
    assert (len(found.calibration), len(found.held)) == (0, 50)


def test_rows_are_cut(tiny_model: Path, sums: Path) -> None:
    found = drawn(tiny_model, sums, export_quantization_method="rtn", export_quantization_maxlen=40)
    assert max(len(row.input_ids) for row in found.held) == 40


def test_names_are_those_of_the_training(tiny_model: Path) -> None:
    tokenizer = tokenizers.load(tiny_model, trust_remote_code=False)
    found = drawn(tiny_model, ROOT / "data", export_quantization_dataset="identity", eval_samples=60)
    said = "".join(tokenizer.decode(row.input_ids) for row in (*found.calibration, *found.held))
    assert "Sprout" in said
    assert "its authors" in said
    assert "{{" not in said


@pytest.mark.parametrize(
    ("name", "what"),
    [("preference_demo", "is data for preference training"), ("empty", "no rows left to measure perplexity on")],
    ids=["pairs", "empty"],
)
def test_sets_that_do_not_serve_are_refused(tiny_model: Path, tmp_path: Path, name: str, what: str) -> None:
    folder = ROOT / "data" if name == "preference_demo" else register(tmp_path / "data", empty=[
        {"instruction": "No answer follows.", "input": "", "output": ""}
    ])  # fmt: skip
    with pytest.raises(DatasetError, match=what):
        drawn(tiny_model, folder, export_quantization_dataset=name)
