"""Checkpoints by every method, read again by hand and by Transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio import models, templates
from studio.exports import report
from studio.runs.run import Run
from tests.worker.conftest import Finished, Start
from tests.worker.quantizing.conftest import METHODS, SEEDLING

NAMES = [name.replace(" ", "_") for name in METHODS]
GATE = "model.layers.0.mlp.gate_proj"


@pytest.mark.parametrize("name", NAMES)
def test_each_method_leaves_a_whole_model_and_its_report(
    made: dict[str, Finished], tiny_model: Path, name: str
) -> None:
    run = made[name]
    assert (run.run_dir / "code").read_text() == "0", run.json("error.json")
    folder = run.run_dir / "model"
    assert models.check(folder).has_chat_template
    assert (folder / "tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()
    own = models.chat_template(tiny_model)
    assert models.chat_template(folder) == (templates.text("alpaca") if name == "gptq_8" else own)
    assert Run(run.run_dir).output == folder
    assert not (run.run_dir / "tmp").exists()
    found = report.read(run.run_dir)
    assert found is not None
    assert found.passed
    table = found.sections[0].table
    assert table is not None
    assert [row[0] for row in table.rows] == [tiny_model.name, run.json("report.json")["facts"]["after"]["name"]]
    before, after = (float(row[2]) for row in table.rows)
    assert after == pytest.approx(before, rel=0.2)
    assert before == pytest.approx(320, rel=0.5)  # of a model that knows nothing, about as many as it has tokens


def test_rounded_weights_are_the_models_within_half_a_step(made: dict[str, Finished], tiny_model: Path) -> None:
    original = load_file(tiny_model / "model.safetensors")[f"{GATE}.weight"].float()
    stored = load_file(made["rtn"].run_dir / "model" / "model.safetensors")
    packed, scale = stored[f"{GATE}.weight_packed"], stored[f"{GATE}.weight_scale"].float()
    values = torch.stack([(packed >> shift) & 0xF for shift in range(0, 32, 4)], dim=-1).reshape(original.shape) - 8
    steps = scale.repeat_interleave(32, dim=1)
    assert scale.shape == (128, 2)
    assert ((values * steps - original).abs() <= 0.55 * steps).all()


def test_what_is_asked_for_is_what_servers_are_told(made: dict[str, Finished]) -> None:
    def told(name: str) -> dict[str, Any]:
        config = json.loads((made[name].run_dir / "model" / "config.json").read_text())["quantization_config"]
        return config if "load_in_4bit" in config else {**config, **config["config_groups"]["group_0"]}

    assert {name: told(name)["format"] for name in NAMES[:6]} == {
        "gptq": "pack-quantized", "gptq_8": "pack-quantized", "awq": "pack-quantized", "int8": "int-quantized",
        "fp8": "float-quantized", "rtn": "pack-quantized",
    }  # fmt: skip
    bits = {name: (told(name)["weights"]["num_bits"], told(name)["weights"]["group_size"]) for name in NAMES[:6]}
    assert bits == {
        "gptq": (4, 32),
        "gptq_8": (8, None),
        "awq": (4, 32),
        "int8": (8, None),
        "fp8": (8, None),
        "rtn": (4, 32),
    }
    assert told("gptq")["weights"]["symmetric"] is True
    assert told("awq")["weights"]["symmetric"] is False
    assert told("int8")["input_activations"]["num_bits"] == 8
    assert told("bitsandbytes")["bnb_4bit_quant_type"] == "nf4"
    assert told("bitsandbytes_8")["load_in_8bit"] is True


def test_modules_left_out_are_bit_for_bit_the_models(made: dict[str, Finished], tiny_model: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, made["gptq"].run_dir / "model"))
    left = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(before[left], after[left])
    assert left.replace(".1.", ".0.") not in after
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_a_ruined_model_is_kept_apart_with_the_reason(made: dict[str, Finished]) -> None:
    spoilt, sound = made["spoilt"], made["sound"]
    assert (sound.run_dir / "code").read_text() == "0"
    assert (spoilt.run_dir / "code").read_text() == "1"
    assert Run(spoilt.run_dir).output is None
    assert not (spoilt.run_dir / "model").exists()
    assert models.check(spoilt.run_dir / "quarantine")
    card, found = spoilt.json("error.json"), report.read(spoilt.run_dir)
    assert found is not None
    assert not found.passed
    assert "the result is ruined and is kept apart" in card["message"]
    assert "take gptq or awq, which calibrate" in card["message"]
    facts = found.facts
    assert facts["after"]["perplexity"] > 3 * facts["before"]["perplexity"]


def test_a_model_without_linear_layers_is_refused(made: dict[str, Finished]) -> None:
    run = made["turned"]
    assert (run.run_dir / "code").read_text() == "1"
    assert "its weights are not those of linear layers" in run.json("error.json")["message"]
    assert not (run.run_dir / "model").exists()


def test_calibration_keeps_what_rounding_loses(made: dict[str, Finished]) -> None:
    rounded, calibrated = (made[name].json("result.json") for name in ("sound", "calibrated"))
    assert rounded["perplexity_before"] == pytest.approx(calibrated["perplexity_before"], rel=0.2)
    assert calibrated["perplexity"] < rounded["perplexity"]
    assert calibrated["smaller"] > 0.5


def test_a_stop_ends_a_quantisation_at_once_and_leaves_nothing(start: Start, tmp_path: Path, sums: Path) -> None:
    from tests.worker.quantizing.conftest import write_config

    run_dir = tmp_path / "stopped"
    write_config(run_dir, sums, model_name_or_path=str(SEEDLING), export_quantization_nsamples=60)
    worker = start("quantize", run_dir)
    worker.until(lambda: worker.phase == "quantising")
    (run_dir / "STOP").touch()
    assert worker.wait(2) == 10
    assert not (run_dir / "model").exists()
    assert not (run_dir / "tmp").exists()
