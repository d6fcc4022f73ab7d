"""Liger's kernels: never on a CPU, only where a try shows them to be right, and gone without a trace where not."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.models.llama import modeling_llama

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.planning.ways import LIGER
from studio.worker.fast import Path, liger
from tests.fakes import liger as fake

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
TOKENS = torch.arange(3, 43)[None]
FULL = TrainConfig(dataset=("a",), finetuning_type="full")


@pytest.fixture
def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=2))


def passed(model: PreTrainedModel) -> list[torch.Tensor]:
    """Logits, and gradients of everything that is trained."""
    model.zero_grad()
    out = model(input_ids=TOKENS, labels=TOKENS)
    out.loss.backward()
    return [out.logits.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor], within: float = 1e-5) -> None:
    assert len(ours) == len(theirs)
    assert all(torch.allclose(one, other, atol=within, rtol=within) for one, other in zip(ours, theirs, strict=True))


def state(model: PreTrainedModel) -> list[dict[str, Any]]:
    return [dict(vars(layer)) for layer in model.modules()]


def test_a_cpu_is_never_touched(llama: PreTrainedModel) -> None:
    before, names = state(llama), dict(vars(modeling_llama))
    assert liger.apply(llama, FULL, torch.float32) == Path("kernels", "plain", "they need a GPU")
    assert liger.path(llama) == Path("kernels", "plain", "they need a GPU")
    del llama.kernels_path
    assert state(llama) == before
    assert vars(modeling_llama) == names
    assert "liger_kernel" not in sys.modules


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"enable_liger_kernel": False}, "it is switched off"),
        ({"parallel_strategy": "zero3"}, "they go with single and ddp only"),
        ({"parallel_strategy": "ddp"}, "they need a GPU"),
    ],
)
def test_why_it_is_not_tried(llama: PreTrainedModel, keys: dict[str, Any], why: str) -> None:
    assert liger.apply(llama, FULL.model_copy(update=keys), torch.float32).why == why


def test_models_that_liger_does_not_fit() -> None:
    strange = BloomForCausalLM(BloomConfig(**SIZES))
    assert "a bloom model is none" in liger.apply(strange, FULL, torch.float32).why
    exact = LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=48, hidden_act="gelu"))
    assert liger.apply(exact, FULL, torch.float32).why == "they have no gelu"


def test_what_is_asked_for_and_cannot_be_had_is_an_error(llama: PreTrainedModel) -> None:
    asked = FULL.model_copy(update={"enable_liger_kernel": True})
    with pytest.raises(ModelError, match="kernels cannot be used, they need a GPU: leave it empty"):
        liger.apply(llama, asked, torch.float32)


def test_every_type_is_one_of_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert set(LIGER) <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


# with a fake in the place of the package


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_kernels_that_are_right_stay(
    llama: PreTrainedModel, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = passed(llama)
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", modeling_llama.apply_rotary_pos_emb)
    fake.install(monkeypatch)
    assert liger._put(llama, FULL, precision) == ""
    patched = [layer for layer in llama.modules() if "forward" in vars(layer)]
    assert len(patched) == 2 * 3 + 1
    assert_same(passed(llama), plain)  # on the CPU positions are rotated as ever
    assert modeling_llama.apply_rotary_pos_emb.func is liger._rotate
    other = LlamaForCausalLM(llama.config)
    assert type(other.model.norm).__name__ == "LlamaRMSNorm"
    assert not any("forward" in vars(layer) for layer in other.modules())


def test_copies_and_adapters_compute_by_layers_of_their_own(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", modeling_llama.apply_rotary_pos_emb)
    fake.install(monkeypatch)
    plain = deepcopy(llama)
    assert liger._put(llama, FULL, torch.float32) == ""
    copied = deepcopy(llama)
    assert copied.model.norm.forward.__self__ is copied.model.norm
    torch.manual_seed(0)
    adapter = LoraConfig(target_modules="all-linear", modules_to_save=["norm"], init_lora_weights=False)
    torch.manual_seed(1)
    ours = passed(get_peft_model(llama, adapter))
    torch.manual_seed(1)
    assert_same(ours, passed(get_peft_model(plain, adapter)))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"norm": 1.1}, "they are off by 10.0% in LlamaRMSNorm here"),
        ({"slant": 0.9}, "they are off by 10.0% in LlamaRMSNorm here"),
        ({"gated": 1.1}, "they are off by 10.0% in LlamaMLP here"),
        ({"slant": float("nan")}, "they are off by nan% in LlamaRMSNorm here"),
        ({"fault": RuntimeError("no compiler\nlines of it")}, "they do not run here: no compiler"),
    ],
    ids=["norm", "gradient", "activation", "nan", "fault"],
)
def test_kernels_that_are_not_right_leave_no_trace(
    llama: PreTrainedModel, keys: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, before, names = passed(llama), state(llama), dict(vars(modeling_llama))
    fake.install(monkeypatch, **keys)
    assert liger._put(llama, FULL, torch.float32) == why
    assert state(llama) == before
    assert vars(modeling_llama) == names
    assert_same(passed(llama), plain, 0)
