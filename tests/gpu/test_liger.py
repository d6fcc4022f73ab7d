"""Liger's kernels on a GPU: what models compute and learn by them is what they compute and learn without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.llama import modeling_llama

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.planning.ways import LIGER
from studio.worker.fast import Path, liger, sums
from tests.worker.conftest import Train
from tests.worker.fast.test_sums import JOINED

pytestmark = pytest.mark.gpu
pytest.importorskip("liger_kernel")

SIZES = {
    "vocab_size": 512, "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FULL = TrainConfig(dataset=("a",), finetuning_type="full")
FLAT = torch.arange(3, 483)[None]
ROWS = torch.cat((torch.arange(200), torch.arange(280)))[None]  # positions of two rows laid end to end


def made(kind: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES), attn_implementation="sdpa")
    for weight in model.parameters():
        weight.data += 0.02 * torch.randn_like(weight)  # norms have no two weights alike
    return model.to("cuda", dtype)


def passed(model: PreTrainedModel, precision: torch.dtype) -> dict[str, torch.Tensor]:
    """Logits, and the gradient of each weight."""
    model.zero_grad()
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        out = model(input_ids=FLAT.cuda(), position_ids=ROWS.cuda(), labels=FLAT.cuda(), use_cache=False)
    out.loss.backward()
    return {"": out.logits.detach().float()} | {name: weight.grad.float() for name, weight in model.named_parameters()}


def apart(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The largest distance, as a share of the plain one's length."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).norm() / (theirs[name].norm() + 1e-9)) for name in theirs)


@pytest.mark.parametrize("kind", LIGER)
@pytest.mark.parametrize(
    ("held", "precision", "within"),
    [
        (torch.bfloat16, torch.bfloat16, 0.05),
        (torch.float32, torch.bfloat16, 0.05),
        (torch.float32, torch.float32, 1e-4),
    ],
    ids=["bfloat16", "autocast", "float32"],
)
def test_a_model_computes_the_same(kind: str, held: torch.dtype, precision: torch.dtype, within: float) -> None:
    model = made(kind, held)
    plain = passed(model, precision)
    assert liger.apply(model, FULL, precision) == Path("kernels", "liger")
    assert sum("forward" in vars(layer) for layer in model.modules()) >= 2 * 3 + 1
    assert apart(passed(model, precision), plain) < within
    sums.join(model, FULL, precision)
    assert sums.paths(model) == ([Path("sums", "in the norms after them")] if kind in JOINED else [])
    assert apart(passed(model, precision), plain) < within


def test_a_failing_try_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("llama", torch.bfloat16)
    plain, names = passed(model, torch.bfloat16), dict(vars(modeling_llama))
    monkeypatch.setattr(liger, "TOLERANCE", -1.0)
    assert "they are off by" in liger.apply(model, FULL, torch.bfloat16).why
    assert vars(modeling_llama) == names
    assert not any("forward" in vars(layer) for layer in model.modules())
    again = passed(model, torch.bfloat16)
    assert torch.equal(again[""], plain[""])
    assert apart(again, plain) < 0.05  # on the way back kernels add up in any order
    with pytest.raises(ModelError, match=r"enable_liger_kernel: .* they are off by"):
        liger.apply(model, FULL.model_copy(update={"enable_liger_kernel": True}), torch.bfloat16)


def test_the_rotation_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def turned_back(_: Any, plain: Any, *states: torch.Tensor, **keys: torch.Tensor) -> list[torch.Tensor]:
        return [-state for state in plain(*states, **keys)]

    monkeypatch.setattr(liger, "_rotate", turned_back)
    model = made("llama", torch.bfloat16)
    assert liger.apply(model, FULL, torch.bfloat16).why == "they are off by 200.0% in apply_rotary_pos_emb here"


def test_another_model_of_the_kind_computes_on_the_cpu() -> None:
    liger.apply(made("llama", torch.bfloat16), FULL, torch.bfloat16)
    other = made("llama", torch.float32).cpu()
    assert torch.isfinite(other(input_ids=FLAT).logits).all()
    assert type(other.model.norm) is modeling_llama.LlamaRMSNorm


@pytest.mark.parametrize(
    "keys",
    [
        {"finetuning_type": "full"},
        {"finetuning_type": "lora", "gradient_checkpointing": "on"},
        {"finetuning_type": "lora", "quantization_bit": 4},
        {"finetuning_type": "lora", "additional_target": "norm"},
        {"finetuning_type": "lora", "sample_prompts": "Who are you?", "sample_steps": 3},
    ],
    ids=["full", "checkpointed", "4 bits", "norms", "samples"],
)
def test_a_training_learns_the_same(train: Train, keys: dict[str, Any]) -> None:
    plain, ours = (
        train(f"run-{wanted}", enable_liger_kernel=wanted, bf16=True, **keys).losses for wanted in (False, True)
    )
    assert ours == pytest.approx(plain, rel=0.02)
