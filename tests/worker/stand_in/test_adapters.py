"""Adapters of every kind answer as in PEFT, and the base never notices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoKrConfig, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from studio.errors import AdapterRefused
from studio.worker.stand_in import adapters
from tests.worker.stand_in.conftest import greedy, make_adapter

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CAUSAL = {"task_type": "CAUSAL_LM"}
# those that vLLM refuses, plain LoRA aside
KINDS: dict[str, Callable[[], PeftConfig]] = {
    "lora": lambda: LoraConfig(r=4, target_modules=ALL, **CAUSAL),
    "dora": lambda: LoraConfig(r=4, target_modules=ALL, use_dora=True, **CAUSAL),
    "modules_to_save": lambda: LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], **CAUSAL),
    "embeddings": lambda: LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], **CAUSAL),
    "bias": lambda: LoraConfig(r=4, target_modules=ALL, lora_bias=True, **CAUSAL),
    "tokens": lambda: LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[60, 61], **CAUSAL),
    "pissa": lambda: LoraConfig(r=4, target_modules=ALL, init_lora_weights="pissa", **CAUSAL),
    "olora": lambda: LoraConfig(r=4, target_modules=ALL, init_lora_weights="olora", **CAUSAL),
    "ia3": lambda: IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **CAUSAL),
    "lokr": lambda: LoKrConfig(r=4, target_modules=ALL, **CAUSAL),
    "prompt": lambda: PromptTuningConfig(num_virtual_tokens=5, **CAUSAL),
    "prefix": lambda: PrefixTuningConfig(num_virtual_tokens=5, **CAUSAL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_answers_as_in_peft(model: PreTrainedModel, model_dir: Path, tmp_path: Path, kind: str) -> None:
    alone = greedy(model)
    expected = make_adapter(model_dir, KINDS[kind](), tmp_path)
    tuned = adapters.load(model, tmp_path)
    assert greedy(tuned) == expected
    assert expected != alone
    assert greedy(model) == alone


def test_kinds_that_peft_would_not_mix_stand_beside_each_other(
    model: PreTrainedModel, model_dir: Path, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    expected = {kind: make_adapter(model_dir, make(), tmp_path / kind) for kind, make in KINDS.items()}
    tuned = {kind: adapters.load(model, tmp_path / kind) for kind in KINDS}
    assert {kind: greedy(each) for kind, each in tuned.items()} == expected
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_an_adapter_takes_no_room_for_the_base(model: PreTrainedModel, model_dir: Path, tmp_path: Path) -> None:
    make_adapter(model_dir, KINDS["lora"](), tmp_path)
    of_base = {weight.data_ptr() for weight in model.parameters()}
    new = [weight for weight in adapters.load(model, tmp_path).parameters() if weight.data_ptr() not in of_base]
    assert sum(weight.nbytes for weight in new) == sum(
        tensor.nbytes for tensor in load_file(tmp_path / "adapter_model.safetensors").values()
    )


def truncate(folder: Path) -> str:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])
    return "SafetensorError"


def break_json(folder: Path) -> str:
    (folder / "adapter_config.json").write_text("{")
    return "does not fit"


def of_another_width(folder: Path) -> str:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor.repeat(1, 2) for name, tensor in load_file(path).items()}, path)
    return "size mismatch"


def of_a_deeper_model(folder: Path) -> str:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    more = {
        name.replace("layers.1", "layers.9"): tensor.clone() for name, tensor in weights.items() if "layers.1" in name
    }
    save_file(weights | more, path)
    return "has weights for .*layers.9"


def lack_weights(folder: Path) -> str:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "layers.1" not in name}, path)
    return "has no weights for .*layers.1"


def of_no_known_kind(folder: Path) -> str:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "peft_type": "WISHFUL"}))
    return "WISHFUL"


SPOILERS = (truncate, break_json, of_another_width, of_a_deeper_model, lack_weights, of_no_known_kind)


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_what_does_not_fit_is_refused(
    model: PreTrainedModel, model_dir: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    alone = greedy(model)
    make_adapter(model_dir, KINDS["lora"](), tmp_path)
    message = spoil(tmp_path)
    with pytest.raises(AdapterRefused, match=message):
        adapters.load(model, tmp_path)
    assert greedy(model) == alone
