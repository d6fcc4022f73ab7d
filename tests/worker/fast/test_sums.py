"""Layers that add by their norms compute and learn what they do without: Liger's kernels are played by torch here."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from studio.config.train import TrainConfig
from studio.worker.fast import Path, sums
from tests.fakes import liger as fake

JOINED = "gemma", "hunyuan_v1_dense", "llama", "ministral", "mistral", "qwen2", "qwen3", "smollm3"
OTHERS = "exaone4", "gemma2", "glm4", "granite", "olmo2", "phi3"
SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TOKENS = torch.arange(3, 43)[None]
FULL = TrainConfig(dataset=("a",), finetuning_type="full")
LORA = TrainConfig(dataset=("a",))
TOGETHER = [Path("sums", "in the norms after them")]


def made(kind: str = "llama") -> PreTrainedModel:
    """A model of random weights whose norms are taken for Liger's."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES), dtype=torch.float32)
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm"):
            layer.weight.data += 0.1 * torch.randn_like(layer.weight)
            fake.mark(layer, is_gemmas=kind.startswith("gemma"))
    model.kernels_path = Path("kernels", "liger")
    return model


def joined(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if "forward" in vars(layer)]


def passed(model: Any, **keys: Any) -> list[torch.Tensor]:
    """Logits, and gradients of everything that is trained."""
    model.zero_grad()
    out = model(input_ids=TOKENS, labels=TOKENS, **keys)
    out.loss.backward()
    return [out.logits.detach(), *(each.grad.clone() for each in model.parameters() if each.grad is not None)]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    fake.install(monkeypatch)


@pytest.mark.parametrize("kind", JOINED)
def test_a_model_computes_and_learns_the_same(kind: str) -> None:
    model = made(kind)
    plain = passed(model)
    sums.join(model, FULL, torch.float32)
    assert sums.paths(model) == TOGETHER
    assert len(joined(model)) == SIZES["num_hidden_layers"]
    assert_same(passed(model), plain)


@pytest.mark.parametrize("kind", OTHERS)
def test_layers_that_add_otherwise_are_left_alone(kind: str) -> None:
    model = made(kind)
    sums.join(model, FULL, torch.float32)
    assert sums.paths(model) == []
    assert joined(model) == []


def test_without_ligers_norms_nothing_is_joined() -> None:
    model = made()
    model.kernels_path = Path("kernels", "plain", "they need a GPU")
    sums.join(model, FULL, torch.float32)
    assert (sums.paths(model), joined(model)) == ([], [])
    model = made()
    del model.model.layers[0].post_attention_layernorm.casting_mode
    sums.join(model, FULL, torch.float32)
    assert sums.paths(model) == [Path("sums", "one by one", "Liger has no LlamaRMSNorm")]
    assert joined(model) == []


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"sums": 1.1}, "they are off by 10.0% here"),
        ({"back": 0.9}, "they are off by 10.0% here"),
        ({"back": float("nan")}, "they are off by nan% here"),
        ({"sums": None}, "they do not run here: no compiler"),
    ],
    ids=["forth", "back", "nan", "fault"],
)
def test_kernels_that_are_not_right_are_not_used(
    keys: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.install(monkeypatch, **keys)
    model = made()
    sums.join(model, LORA, torch.float32)
    assert sums.paths(model) == [Path("sums", "one by one", why)]
    assert joined(model) == []
    assert all(weight.requires_grad for weight in model.parameters())


def test_adapters_learn_the_same_and_may_be_wrapped_around_norms() -> None:
    for also in (None, ["post_attention_layernorm"]):
        adapter = LoraConfig(target_modules="all-linear", modules_to_save=also, init_lora_weights=False)
        results = []
        for join in (False, True):
            model = made()
            if join:
                sums.join(model, LORA, torch.float32)
            torch.manual_seed(1)
            results.append(passed(get_peft_model(model, adapter)))
        assert_same(*results)


def test_a_hook_on_a_norm_is_heard() -> None:
    model = made()
    sums.join(model, FULL, torch.float32)
    heard = []
    model.model.layers[1].input_layernorm.register_forward_hook(lambda *_: heard.append(1))
    passed(model)
    assert heard == [1]


def test_layers_that_are_computed_twice_learn_the_same() -> None:
    model = made()
    model.train()
    plain = passed(model)
    sums.join(model, FULL, torch.float32)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(passed(model, use_cache=False), plain)


def test_a_sum_of_two_types_has_the_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    with torch.autocast("cpu", torch.bfloat16):
        plain = passed(model)
        sums.join(model, FULL, torch.bfloat16)
        assert sums.paths(model) == TOGETHER
        assert_same(passed(model), plain)


def test_a_copy_and_an_answer() -> None:
    model = made().eval()
    asked: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}
    plain = model.generate(TOKENS, **asked)
    sums.join(model, FULL, torch.float32)
    assert torch.equal(model.generate(TOKENS, **asked), plain)
    copied = deepcopy(model)
    with torch.no_grad():
        copied.model.layers[0].mlp.down_proj.weight.mul_(100)
    assert torch.equal(model.generate(TOKENS, **asked), plain)
    assert not torch.equal(copied(TOKENS).logits, model(TOKENS).logits)
