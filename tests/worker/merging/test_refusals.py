"""What cannot be merged is refused by name before anything is written: never guessed, never left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.errors import ModelError
from studio.worker.merging import full_memory
from studio.worker.merging.plan import plan
from studio.worker.merging.work import Share
from tests.worker.merging.bases import make_adapter

QUERY = "base_model.model.model.layers.0.self_attn.q_proj"
HEAD = "base_model.model.lm_head.weight"


@pytest.fixture(scope="module")
def plain(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("plain"), bases["untied"], target_modules=["q_proj", "down_proj"])


@pytest.fixture
def adapter(plain: Path, tmp_path: Path) -> Path:
    """One that may be damaged."""
    return Path(shutil.copytree(plain, tmp_path / "adapter"))


def rewrite(folder: Path, without: str = "\0", **more: torch.Tensor) -> None:
    path = folder / "adapter_model.safetensors"
    kept = {key: tensor for key, tensor in load_file(path).items() if without not in key}
    save_file({**kept, **more}, path, metadata={"format": "pt"})


def restate(folder: Path, **options: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))


KEYS: dict[str, tuple[dict[str, torch.Tensor], str, str]] = {
    "an unknown key": ({f"{QUERY}.lora_C.weight": torch.zeros(4)}, "\0", r"no weights for .*q_proj\.lora_C\.weight"),
    "a layer too many": ({QUERY.replace(".0.", ".7.") + ".weight": torch.zeros(32, 32)}, "\0", r"layers\.7\."),
    "several unknown keys": (
        {f"{QUERY}.lora_{letter}.weight": torch.zeros(4) for letter in "CDEFG"},
        "\0",
        r"no weights for .*lora_C.*lora_D.*lora_E.* and 2 more",
    ),
    "half a pair": ({}, "layers.0.self_attn.q_proj.lora_B", r"layers\.0\.self_attn\.q_proj lacks its b"),
    "a bias not stated": ({f"{QUERY}.lora_B.bias": torch.zeros(32)}, "\0", r"q_proj\.lora_B\.bias"),
    "lengths not stated": ({f"{QUERY}.lora_magnitude_vector": torch.zeros(32)}, "\0", "lora_magnitude_vector"),
    "another width": ({f"{QUERY}.lora_A.weight": torch.zeros(4, 30)}, "\0", r"\[32, 32\] in the base and \[32, 30\]"),
    "another rank": (
        {f"{QUERY}.lora_A.weight": torch.zeros(3, 32), f"{QUERY}.lora_B.weight": torch.zeros(32, 3)},
        "\0",
        "q_proj has rank 3 in the adapter's weights, 4 in adapter_config.json",
    ),
    "a whole weight of another shape": ({HEAD: torch.zeros(96, 31)}, "\0", "lm_head.weight is"),
    "one end resized": ({HEAD: torch.zeros(101, 32)}, "\0", "without one of its resized ends"),
    "a layer too few": ({}, "layers.1.self_attn", r"incomplete: .* model\.layers\.1\.self_attn\.q_proj\.weight, and"),
    "the adapter's name": ({f"{QUERY}.lora_A.default.weight": torch.zeros(4, 32)}, "\0", r"take \.default out"),
    "nothing": ({}, "base_model", "holds no weights"),
}
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "of a newer peft": ({"use_magic": True, "use_none": None}, "uses use_magic, which"),
    "layers replicated": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "activated lora": ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
    "corda": ({"init_lora_weights": "corda"}, "began with corda"),
    "loftq": ({"init_lora_weights": "loftq"}, "began with loftq"),
    "gradients": ({"init_lora_weights": "lora_ga"}, "began with lora_ga"),
    "pissa by chance": ({"init_lora_weights": "pissa_niter_16"}, "began with pissa_niter_16"),
    "turned square weights": ({"fan_in_fan_out": True}, r"q_proj\.weight is square, and .* of a llama model: set it"),
    "dora without lengths": ({"use_dora": True}, "lacks its magnitude"),
}
SHARED: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"use_dora": True}, "DoRA"),
    "whole": ({"modules_to_save": ["norm"]}, "trained whole"),
    "tokens": ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    "pissa": ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_without_a_place_is_named(bases: dict[str, Path], adapter: Path, name: str) -> None:
    added, without, told = KEYS[name]
    rewrite(adapter, without, **added)
    with pytest.raises(ModelError, match=told):
        plan(bases["untied"], [Share(adapter)])


def test_an_adapter_in_a_pickle_is_not_opened(bases: dict[str, Path], adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"holds adapter_model\.bin, which .* save it again"):
        plan(bases["untied"], [Share(adapter)])


@pytest.mark.parametrize(
    "targets",
    ["all-linear", r".*layers\.\d+\..*(q_proj|down_proj)", ["model.layers.1.self_attn.q_proj"]],
    ids=["all", "pattern", "whole names"],
)
def test_a_layer_too_few_for_other_targets(bases: dict[str, Path], adapter: Path, targets: str | list[str]) -> None:
    rewrite(adapter, "layers.1.self_attn")
    restate(adapter, target_modules=targets)
    with pytest.raises(ModelError, match=r"incomplete: .* changes model\.layers\.1\.self_attn\.q_proj\.weight, and"):
        plan(bases["untied"], [Share(adapter)])


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_without_arithmetic_is_named(bases: dict[str, Path], adapter: Path, name: str) -> None:
    options, told = OPTIONS[name]
    restate(adapter, **options)
    with pytest.raises(ModelError, match=told):
        plan(bases["untied"], [Share(adapter)])


@pytest.mark.parametrize("name", SHARED)
def test_a_part_of_what_is_no_sum_is_refused(bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    options, told = SHARED[name]
    adapter = make_adapter(tmp_path / "adapter", bases["untied"], target_modules=["q_proj"], **options)
    with pytest.raises(ModelError, match=told):
        plan(bases["untied"], [Share(adapter, 0.5)])


@pytest.mark.parametrize("name", SHARED)
def test_what_is_no_sum_is_not_put_on_another_adapter(bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    base = bases["untied"]
    first = make_adapter(tmp_path / "1", base, target_modules=["q_proj", "embed_tokens"], modules_to_save=["norm"])
    options = SHARED[name][0]
    second = make_adapter(tmp_path / "2", base, target_modules=["q_proj"], **options)
    with pytest.raises(ModelError, match=r"changed by several .* is no sum"):
        plan(base, [Share(first), Share(second)])


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_on_one_of_two_tied_ends(bases: dict[str, Path], tmp_path: Path, start: str) -> None:
    options = {"target_modules": ["q_proj", "lm_head"], "init_lora_weights": start}
    adapter = make_adapter(tmp_path / "adapter", bases["tied"], **options)
    with pytest.raises(ModelError, match=rf"init_lora_weights: {start} took what lm_head began with"):
        plan(bases["tied"], [Share(adapter)])


def test_a_bias_where_models_of_the_kind_have_none(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", bases["qwen"], target_modules=["o_proj"], lora_bias=True)
    with pytest.raises(ModelError, match=r"o_proj\.bias .*a qwen2 model has no place"):
        plan(bases["qwen"], [Share(adapter)])


def test_rows_that_the_vocabulary_does_not_have(bases: dict[str, Path], tmp_path: Path) -> None:
    options = {"target_modules": ["q_proj"], "trainable_token_indices": [3, 4]}
    adapter = make_adapter(tmp_path / "adapter", bases["tied"], **options)
    for rows in ([3, 96], [3, -1], [3], [3, 4, 5]):
        restate(adapter, trainable_token_indices=rows)
        with pytest.raises(ModelError, match="trainable_token_indices: the adapter has 2 rows"):
            plan(bases["tied"], [Share(adapter)])


def test_stacked_experts_of_another_number(bases: dict[str, Path], tmp_path: Path) -> None:
    options = {"target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}
    adapter = make_adapter(tmp_path / "adapter", bases["experts"], **options)
    name = "base_model.model.model.layers.1.mlp.experts"
    rewrite(adapter, **{f"{name}.lora_A.weight": torch.zeros(18, 16), f"{name}.lora_B.weight": torch.zeros(32, 18)})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.experts\.down_proj"):
        plan(bases["experts"], [Share(adapter)])


def test_a_quantised_base_is_refused(bases: dict[str, Path], adapter: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(bases["untied"], tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="merge into the 16-bit model"):
        plan(base, [Share(adapter)])


@pytest.mark.parametrize("merge", [plan, full_memory.plan], ids=["stream", "full memory"])
def test_an_end_of_an_unknown_name(bases: dict[str, Path], adapter: Path, tmp_path: Path, merge: Any) -> None:
    """It may be tied to a head of an unknown name."""
    base = Path(shutil.copytree(bases["untied"], tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    table = tensors.pop("model.embed_tokens.weight")
    save_file({**tensors, "model.table.weight": table}, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    del config["tie_word_embeddings"]
    (base / "config.json").write_text(json.dumps(config))
    rewrite(adapter, **{"base_model.model.model.table.weight": torch.zeros(96, 32)})
    with pytest.raises(ModelError, match=r"changes model\.table\.weight, which may be one weight .* not known here"):
        merge(base, [Share(adapter)])


def test_a_base_that_lacks_a_tensor_of_its_index(bases: dict[str, Path], adapter: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(bases["untied"], tmp_path / "base"))
    index = {"weight_map": dict.fromkeys([*load_file(base / "model.safetensors"), "lost"], "model.safetensors")}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks lost, which model\.safetensors\.index\.json says is in"):
        plan(base, [Share(adapter)])


def test_a_base_of_which_two_sets_of_weights_are_there(bases: dict[str, Path], adapter: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(bases["untied"], tmp_path / "base"))
    shutil.copy(base / "model.safetensors", base / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(base / "model.safetensors"), "model-00001-of-00001.safetensors")}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"holds two sets of weights, .*remove the one that is not the model's"):
        plan(base, [Share(adapter)])
