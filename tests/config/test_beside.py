"""Files that a YAML names: DeepSpeed's, FSDP's, read in so that a run needs none of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from studio.config.load import load_run_config, parse, read_yaml, save, without_effect
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.parallel import zero
from tests.config.examples import FILE

THEIRS = json.loads(FILE.read_text()) if FILE.exists() else {}
STAGE_3 = {"bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}


def config_of(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "a", **keys})


def told(**keys: Any) -> dict[str, str]:
    return {told.where: told.what for told in without_effect(keys)}


@pytest.mark.parametrize("place", [".", "..", "../deepspeed"])
def test_a_file_is_found_from_the_folder_of_the_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """As LLaMA-Factory's examples name theirs from the root of its checkout, whatever the working folder."""
    home = tmp_path / "examples/train_full"
    home.mkdir(parents=True)
    (home / place).mkdir(exist_ok=True)
    path = (home / place / "ds.json").resolve()
    path.write_text(json.dumps(STAGE_3))
    named = {".": "ds.json", "..": "ds.json", "../deepspeed": "examples/deepspeed/ds.json"}[place]
    (home / "run.yaml").write_text(yaml.safe_dump({"dataset": "a", "deepspeed": named}))
    monkeypatch.chdir("/")
    config = parse(TrainConfig, read_yaml(home / "run.yaml"))
    assert (config.parallel_strategy, config.offload_param) == ("zero3", "cpu")
    path.unlink()
    save(config, tmp_path / "config.yaml")
    assert load_run_config(tmp_path / "config.yaml") == config  # the run holds the settings, not their place
    assert zero.settings(config)["zero_optimization"]["stage"] == 3


def test_settings_may_stand_in_the_yaml() -> None:
    config = config_of(deepspeed=STAGE_3)
    assert (config.parallel_strategy, config.offload_param) == ("zero3", "cpu")
    assert config_of(deepspeed=json.dumps(STAGE_3)).parallel_strategy == "zero3"
    nvme = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/fast"}}}
    config = config_of(deepspeed=nvme)
    assert (config.parallel_strategy, config.offload_optimizer, config.nvme_path) == ("zero3", "nvme", "/fast")


@pytest.mark.parametrize(
    ("name", "strategy", "offloads"),
    [
        ("ds_z0_config.json", "ddp", ("none", "none")),
        ("ds_z2_config.json", "zero2", ("none", "none")),
        ("ds_z2_offload_config.json", "zero2", ("cpu", "none")),
        ("examples/deepspeed/ds_z3_config.json", "zero3", ("none", "none")),
        ("ds_z3_offload_config.json", "zero3", ("cpu", "cpu")),
        ("ds_z3_fp8_config.json", "zero3", ("none", "none")),
    ],
)
def test_of_their_own_files_the_name_is_enough(name: str, strategy: str, offloads: tuple[str, str]) -> None:
    config = config_of(deepspeed=name)
    assert (config.parallel_strategy, config.offload_optimizer, config.offload_param) == (strategy, *offloads)
    assert config.deepspeed is None
    assert "is not here: settings for" in told(deepspeed=name)["deepspeed"]


@pytest.mark.skipif(not THEIRS, reason="LLaMA-Factory's example configurations are not on this machine")
@pytest.mark.parametrize("name", ["ds_z0_config", "ds_z2_config", "ds_z3_offload_config"])
def test_their_own_files_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(THEIRS[f"deepspeed/{name}.json"]))
    config = config_of(deepspeed=str(path))
    by_name = config_of(deepspeed=path.name)
    assert config.parallel_strategy == by_name.parallel_strategy
    assert (config.offload_optimizer, config.offload_param) == (by_name.offload_optimizer, by_name.offload_param)


def test_stage_0_is_ddp_and_that_is_told() -> None:
    given = {"zero_optimization": {"stage": 0}}
    assert config_of(deepspeed=given).parallel_strategy == "ddp"
    assert config_of(deepspeed=given).deepspeed is None
    assert "stage 0 shards nothing" in told(deepspeed=given)["deepspeed"]


def test_a_strategy_that_is_named_must_be_that_of_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"zero_optimization\.stage is 3, and parallel_strategy asks for 2"):
        config_of(deepspeed=STAGE_3, parallel_strategy="zero2")


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"zero_optimization": {')
    (tmp_path / "large.json").write_text(" " * (1 << 20) + "{}")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\0")
    for name, words in (("torn", "can be read"), ("large", "too large"), ("binary", "can be read")):
        with pytest.raises(ConfigError, match=words):
            config_of(deepspeed=str(tmp_path / f"{name}.json"))
    with pytest.raises(ConfigError, match=r"there is no file 'gone\.json'"):
        config_of(deepspeed="gone.json")


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"zero_optimization": "x"}, "stage is 0, 1, 2 or 3 (got 'x')"),
        ({"zero_optimization": {"stage": [1]}}, "stage is 0, 1, 2 or 3 (got [1])"),
        ({"zero_optimization": {"stage": True}}, "stage is 0, 1, 2 or 3 (got True)"),
        ({"zero_optimization": {"stage": 3, "offload_param": "cpu"}}, "offload_param is an object {...} (got 'cpu')"),
    ],
)
def test_settings_of_another_form_are_refused(own: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(deepspeed=own)
    [problem] = caught.value.problems
    assert problem.where == "deepspeed"
    assert words in problem.what


# FSDP as transformers has it


@pytest.mark.parametrize(
    ("keys", "strategy", "offload"),
    [
        ({"fsdp": True}, "fsdp2", "none"),
        ({"fsdp": "full_shard auto_wrap"}, "fsdp2", "none"),
        ({"fsdp": ["full_shard", "auto_wrap", "offload"]}, "fsdp2", "cpu"),
        ({"fsdp": "full_shard", "fsdp_config": {"fsdp_offload_params": True, "fsdp_version": 2}}, "fsdp2", "cpu"),
        ({"fsdp": "no_shard"}, "ddp", "none"),
        ({"fsdp": ""}, "single", "none"),
        ({"fsdp_config": {"offload_params": True}}, "single", "none"),
    ],
    ids=str,
)
def test_fsdp_is_a_strategy(keys: dict[str, Any], strategy: str, offload: str) -> None:
    config = config_of(**keys)
    assert (config.parallel_strategy, config.offload_param) == (strategy, offload)


def test_settings_of_fsdp_may_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "fsdp.json"
    path.write_text(json.dumps({"offload_params": True, "activation_checkpointing": True, "limit_all_gathers": True}))
    config = config_of(fsdp=True, fsdp_config=str(path))
    assert (config.offload_param, config.gradient_checkpointing) == ("cpu", "on")
    assert "fsdp_config.limit_all_gathers" in told(fsdp=True, fsdp_config=str(path))


@pytest.mark.parametrize(
    ("keys", "where", "words"),
    [
        ({"fsdp": "shard_grad_op"}, "fsdp", "parallel_strategy: zero2"),
        ({"fsdp": 5}, "fsdp", "write it as true or full_shard"),
        ({"fsdp": True, "fsdp_config": {"xla": True}}, "fsdp_config.xla", "not for TPUs"),
        ({"fsdp": True, "fsdp_config": "gone.json"}, "fsdp_config", "no such JSON file"),
    ],
    ids=str,
)
def test_what_cannot_be_had_of_fsdp(keys: dict[str, Any], where: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**keys)
    assert {problem.where: words in problem.what for problem in caught.value.problems} == {where: True}


def test_a_wait_of_years_is_an_hour() -> None:
    assert config_of(ddp_timeout=180_000_000).ddp_timeout == 3600
    assert "3600 s" in told(ddp_timeout=180_000_000)["ddp_timeout"]
    assert config_of(ddp_timeout=900).ddp_timeout == 900
    assert not told(ddp_timeout=900)
