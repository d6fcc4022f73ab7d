"""What the adapter tools say before they start, by headers alone: small files written here, no model is loaded."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studio.cli.export.command import read
from studio.config.adapter import AdapterConfig
from studio.config.command import command
from studio.config.load import load_run_config, parse, save
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.exports.adapter import inputs, plan
from studio.exports.plan import Plan
from studio.runs.store import Store
from studio.settings import ASSETS

SEEDLING = ASSETS / "seedling"
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def adapter(folder: Path, r: int = 4, base: str = str(SEEDLING), width: int = 256, **stated: Any) -> Path:
    """A LoRA of one module as PEFT stores it."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": r, "lora_alpha": 8, "target_modules": ["q_proj"], **stated}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    weights = {f"{Q}.lora_A.weight": torch.ones(r, width), f"{Q}.lora_B.weight": torch.ones(256, r)}
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def planned(tmp_path: Path, **keys: Any) -> Plan:
    return plan(Store(tmp_path / "saves"), parse(AdapterConfig, keys))


def refused(tmp_path: Path, **keys: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        planned(tmp_path, **keys)
    return {problem.where: problem.what for problem in raised.value.problems}


def test_an_average_says_what_it_counts(tmp_path: Path) -> None:
    names = [str(adapter(tmp_path / "a")), str(adapter(tmp_path / "b", r=8))]
    said = planned(tmp_path, action="average", adapter_name_or_path=names, adapter_weights=[0.7, 0.7])
    assert said.title == "Average 2 adapters exactly, into one of rank 12."
    assert said.lines == (f"0.7 of `{names[0]}` (rank 4)", f"0.7 of `{names[1]}` (rank 8)", "Base: `seedling`")
    assert "add up to 1.4" in said.warnings[0]
    assert said.bytes == 4 * 12 * 512
    cut = planned(tmp_path, action="average", adapter_name_or_path=names, combination_type="svd", lora_rank=6)
    assert cut.title == "Average 2 adapters into one of rank 6, with the error reported."
    assert cut.bytes == 2 * 12 * 512


def test_adapters_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    one, other = str(adapter(tmp_path / "a")), str(adapter(tmp_path / "b", width=128))
    said = refused(tmp_path, action="average", adapter_name_or_path=[one, other])
    assert "lora_A.weight has another shape in" in said["adapter_name_or_path"]
    turned = str(adapter(tmp_path / "d", fan_in_fan_out=True))
    said = refused(tmp_path, action="average", adapter_name_or_path=[one, turned])
    assert "differ in fan_in_fan_out: an average cannot be both" in said["adapter_name_or_path"]
    experts = str(adapter(tmp_path / "c", target_parameters=["mlp.experts.down_proj"]))
    said = refused(tmp_path, action="average", adapter_name_or_path=[experts, experts])
    assert "experts (target_parameters)" in said["adapter_name_or_path"]


def test_a_conversion_says_its_size(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    said = planned(tmp_path, action="convert", adapter_name_or_path=str(folder), export_dtype="bfloat16")
    assert said.title == f"Write `{folder}` in bfloat16."
    assert said.bytes == 2 * 4 * 512
    assert said.lines == ("Base: `seedling`, rank 4, 8.19 kB",)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    said = refused(tmp_path, action="convert", adapter_name_or_path="nowhere", export_dtype="float32")
    assert "neither an adapter folder nor a run" in said["adapter_name_or_path"]
    said = refused(tmp_path, action="extract", adapter_name_or_path="nowhere")
    assert "neither the folder of a checkpoint nor a run" in said["adapter_name_or_path"]
    said = refused(tmp_path, action="extract", adapter_name_or_path=str(SEEDLING))
    assert "is a whole model: set tuned_model_name_or_path" in said["adapter_name_or_path"]


def test_adapters_in_the_making_are_left_to_their_training(tmp_path: Path) -> None:
    pissa = adapter(tmp_path / "a", init_lora_weights="pissa_niter_16")
    gone = adapter(tmp_path / "b", base=str(tmp_path / "run/tmp/start"))
    for folder, why in ((pissa, r"pissa_niter_16"), (gone, r"which is gone")):
        said = refused(tmp_path, action="extract", adapter_name_or_path=str(folder))
        assert why in said["adapter_name_or_path"]
        assert "esume the run and stop it" in said["adapter_name_or_path"]


def model(folder: Path, **shapes: tuple[int, ...]) -> Path:
    """A model folder with these weights and nothing to load."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


UNLIKE: dict[str, dict[str, tuple[int, ...]]] = {
    "b.weight is in one of the two models only": {"a.weight": (4, 4)},
    "b.weight is [8, 4] in the base and [9, 4] in the fine-tuned model (a grown": {
        "a.weight": (4, 4),
        "b.weight": (9, 4),
    },
    "a.weight is [4, 4] in the base and [4, 5] in": {"a.weight": (4, 5), "b.weight": (8, 4)},
}


@pytest.mark.parametrize("why", UNLIKE, ids=range(len(UNLIKE)))
def test_models_that_have_no_difference_to_take_are_refused(tmp_path: Path, why: str) -> None:
    base = model(tmp_path / "base", **{"a.weight": (4, 4), "b.weight": (8, 4)})
    tuned = model(tmp_path / "tuned", **UNLIKE[why])
    said = refused(
        tmp_path, action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(base), lora_rank=2
    )
    assert why in said["tuned_model_name_or_path"]


def test_the_base_of_a_training_is_known(tmp_path: Path) -> None:
    store = Store(tmp_path / "saves")
    run = store.create(parse(TrainConfig, {"finetuning_type": "full", "dataset": "identity"}))
    assert load_run_config(run.path / "config.yaml").model_name_or_path == "seedling"
    tuned = run.path / "model"
    tuned.symlink_to(SEEDLING)
    config = parse(AdapterConfig, {"action": "extract", "tuned_model_name_or_path": str(tuned), "lora_rank": 8})
    assert inputs(store, config).base == SEEDLING
    assert "difference of" in plan(store, config).title
    nobody = parse(AdapterConfig, {"action": "extract", "tuned_model_name_or_path": str(SEEDLING)})
    with pytest.raises(ConfigError, match="does not say which model it was fine-tuned from: set model_name_or_path"):
        plan(store, nobody)


WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "one of two": ({"action": "average", "adapter_name_or_path": "a"}, {"adapter_name_or_path"}),
    "no type": ({"action": "convert", "adapter_name_or_path": "a"}, {"export_dtype"}),
    "scale of one": ({"action": "scale", "adapter_name_or_path": "a,b"}, {"scale", "adapter_name_or_path"}),
    "shares": (
        {"action": "average", "adapter_name_or_path": "a,b", "adapter_weights": "1,2,3"}, {"adapter_weights"}
    ),
    "nothing to extract": ({"action": "extract"}, {"tuned_model_name_or_path"}),
    "two things to extract": (
        {"action": "extract", "adapter_name_or_path": "a", "tuned_model_name_or_path": "b"},
        {"tuned_model_name_or_path"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_request_that_makes_no_sense_is_refused(case: str) -> None:
    keys, where = WRONG[case]
    with pytest.raises(ConfigError) as raised:
        parse(AdapterConfig, keys)
    assert {problem.where for problem in raised.value.problems} == where


def test_a_request_survives_its_file(tmp_path: Path) -> None:
    config = parse(AdapterConfig, {"action": "average", "adapter_name_or_path": "a,b", "adapter_weights": "0.5,0.25"})
    save(config, tmp_path / "config.yaml")
    assert load_run_config(tmp_path / "config.yaml") == config


COMMANDS: dict[str, dict[str, Any]] = {
    "average": {"action": "average", "adapter_name_or_path": ["a b", "c=d"], "adapter_weights": [0.5, 0.25]},
    "extract": {"action": "extract", "tuned_model_name_or_path": "/full model", "lora_rank": 8},
}


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_of_a_request_makes_the_same_request(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c=d").mkdir()
    config = parse(AdapterConfig, COMMANDS[case])
    words = shlex.split(command(config))[4:]
    assert parse(AdapterConfig, read(AdapterConfig, words)) == config
