"""LLaMA-Factory's export files: each key is taken, translated, without effect or refused, and none in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.config.llamafactory import exporting
from studio.config.load import parse, without_effect
from studio.config.merge import MergeConfig
from studio.config.quantize import QuantizeConfig
from studio.errors import ConfigError
from studio.settings import ROOT
from tests.config.test_llamafactory import their_keys

FILE = ROOT.parent / "shared/data/llamafactory/example_configs.json"
MERGE = {"adapter_name_or_path": "saves/qwen3-4b/lora/sft", "model_name_or_path": "Qwen/Qwen3-4B"}
TRANSLATED = {"infer_dtype"}


def told(values: dict[str, Any], kind: type = MergeConfig) -> tuple[Any, set[str], dict[str, str]]:
    """The configuration if there is one, the keys left out, and the refusals."""
    left = {problem.where for problem in without_effect(values, kind)}
    try:
        return parse(kind, values), left, {}
    except ConfigError as error:
        return None, left, {problem.where: problem.what for problem in error.problems}


def test_every_key_has_one_fate() -> None:
    options = set(MergeConfig.model_fields)
    refused = set(exporting.REFUSED) - options
    left = {"finetuning_type", *exporting.without_effect(dict.fromkeys(their_keys(), "x"), options)}
    fates = [options & their_keys(), refused & their_keys(), TRANSLATED, left]
    assert set().union(*fates) == their_keys()
    assert sum(map(len, fates)) == len(their_keys())


@pytest.mark.parametrize("key", sorted(set(exporting.REFUSED) - set(MergeConfig.model_fields)))
def test_a_refused_key_says_what_to_use(key: str) -> None:
    _, _, refused = told({**MERGE, key: "x"})
    assert refused == {key: f"is not supported; use instead: {exporting.REFUSED[key]}"}
    assert told({**MERGE, key: False})[2] == {}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"infer_dtype": "bfloat16"}, {"export_dtype": "bfloat16"}),
        ({"infer_dtype": "float16", "export_dtype": "float32"}, {"export_dtype": "float32"}),
        ({"adapter_name_or_path": "one, two"}, {"adapter_name_or_path": ("one", "two")}),
        ({"export_dir": "merged", "export_size": 2}, {"export_dir": "merged", "export_size": 2}),
        ({"finetuning_type": "lora", "stage": "sft", "cutoff_len": 7}, {}),
        ({"model_revision": "main", "export_legacy_format": False}, {}),
    ],
    ids=["type", "both types", "several", "folder", "of training", "defaults"],
)
def test_their_words_are_read_as_ours(values: dict[str, Any], wanted: dict[str, Any]) -> None:
    config, _, refused = told({**MERGE, **values})
    assert refused == {}
    assert config.model_dump() == {**parse(MergeConfig, MERGE).model_dump(), **wanted}


def test_what_only_training_uses_is_left_out_and_said() -> None:
    values = {**MERGE, "stage": "sft", "finetuning_type": "lora", "learning_rate": 1e-4, "resize_vocab": True}
    _, left, refused = told(values)
    assert (left, refused) == ({"stage", "learning_rate", "resize_vocab"}, {})


@pytest.mark.parametrize("kind", ["oft", "full", "freeze"])
def test_only_lora_is_merged(kind: str) -> None:
    assert "finetuning_type: lora" in told({**MERGE, "finetuning_type": kind})[2]["finetuning_type"]


def test_a_key_that_nobody_has_is_refused() -> None:
    assert told({**MERGE, "export_sise": 1})[2] == {"export_sise": "there is no such option; did you mean export_size?"}


def test_a_quantised_export_takes_its_own_keys() -> None:
    values = {
        "model_name_or_path": "seedling", "export_dir": "saves/small", "export_quantization_bit": 4,
        "export_quantization_dataset": "identity", "export_size": 5, "export_device": "cpu",
    }  # fmt: skip
    config, left, refused = told(values, QuantizeConfig)
    assert (refused, left) == ({}, {"export_size"})
    assert (config.run_name, config.export_quantization_bit, config.export_device) == ("small", 4, "cpu")
    refused = told({**values, "adapter_name_or_path": "a"}, QuantizeConfig)[2]
    assert "python -m studio merge first" in refused["adapter_name_or_path"]


@pytest.mark.skipif(not FILE.exists(), reason="LLaMA-Factory's example files are not here")
@pytest.mark.parametrize("name", ["merge_lora/qwen3_lora_sft.yaml", "merge_lora/qwen3vl_lora_sft.yaml"])
def test_their_own_merge_files_run_unchanged(name: str) -> None:
    values = json.loads(FILE.read_text())[name]
    config, left, refused = told(values)
    assert (left, refused) == (set(), {})
    assert {key: values[key] for key in values if key in ("export_dir", "export_size", "template")} == {
        key: getattr(config, key) for key in ("export_dir", "export_size", "template")
    }


@pytest.mark.parametrize(
    ("adapters", "title"),
    [
        (["20260101-101010-a1b2c3-fox"], "fox-merged"),
        (["/saves/20260101-101010-a1b2c3-fox/checkpoints/checkpoint-5"], "fox-merged"),
        (["/saves/20260101-101010-a1b2c3-fox/adapter", "/my/owl"], "fox-owl-merged"),
        (["/my/owl/adapter"], "owl-merged"),
        (["/saves/20260101-101010-a1b2c3/adapter"], "merged"),
    ],
    ids=["run", "checkpoint", "two", "folder", "no name"],
)
def test_a_merge_is_called_as_what_it_merges(adapters: list[str], title: str) -> None:
    assert parse(MergeConfig, {"adapter_name_or_path": adapters}).title == title
    assert parse(MergeConfig, {"adapter_name_or_path": adapters, "run_name": "mine"}).title == "mine"


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"adapter_name_or_path": ""}, "adapter_name_or_path"),
        ({"adapter_weights": "1,2"}, "adapter_weights"),
        ({"adapter_weights": "0"}, "adapter_weights"),
        ({"overwrite_output_dir": True}, "overwrite_output_dir"),
        ({"template": "chattml"}, "template"),
        ({"export_size": 0}, "export_size"),
    ],
    ids=["no adapter", "two shares", "no share", "nothing to replace", "template", "size"],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], where: str) -> None:
    assert list(told({**MERGE, **values})[2]) == [where]
