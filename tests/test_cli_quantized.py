"""`python -m studio export quantized`, from words to a configuration, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from studio.cli import front

LLAMA_FACTORY = """
model_name_or_path: seedling
template: chatml
export_dir: output/seedling_gptq
export_quantization_bit: 4
export_quantization_dataset: data/c4_demo.jsonl
export_size: 5
export_device: cpu
export_legacy_format: false
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_SAVES", str(tmp_path / "saves"))
    monkeypatch.chdir(tmp_path)


def test_llama_factorys_file_means_a_calibrated_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    rows = "".join(json.dumps({"text": f"Row {number}."}) + "\n" for number in range(9))
    (tmp_path / "data" / "c4_demo.jsonl").write_text(rows)
    (tmp_path / "quantise.yaml").write_text(LLAMA_FACTORY)
    assert front.main(["export", "quantise.yaml", "export_quantization_nsamples=4", "--dry-run"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["kind"], values["run_name"], values["export_device"]) == ("quantize", "seedling_gptq", "cpu")
    assert (values["export_quantization_method"], values["export_quantization_bit"]) == ("gptq", 4)
    assert values["export_quantization_dataset"] == str(tmp_path / "data" / "c4_demo.jsonl")


def test_what_cannot_be_done_is_refused_before_a_run_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["seedling", "export_quantization_dataset=nowhere", "modules_to_not_convert=re:.*"]
    assert front.main(["export", "quantized", *words]) == 2
    said = capsys.readouterr().err
    assert "export_quantization_dataset: " in said
    assert "modules_to_not_convert: leaves nothing to quantise" in said
    assert not (tmp_path / "saves").exists()
