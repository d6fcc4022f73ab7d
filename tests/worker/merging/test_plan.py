"""Merges beyond one adapter on one base: several, resized, on other layouts, rounded; and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, BitsAndBytesConfig

from studio.worker.merging import stream
from studio.worker.merging.plan import plan
from studio.worker.merging.quantised import Rounding
from studio.worker.merging.work import Share
from tests.worker.merging.bases import SIZES, live, load, logits, make_adapter, merged

TOLERANCE = 2e-5
SOME = ["q_proj", "down_proj"]
ATTENTION = "base_model.model.model.layers.0.self_attn.q_proj"
STACKED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def rewrite(folder: Path, name: str = "adapter_model", without: str = "\0", **more: torch.Tensor) -> None:
    """Take tensors away from a file and add others."""
    path = folder / f"{name}.safetensors"
    kept = {key: tensor for key, tensor in load_file(path).items() if without not in key}
    save_file({**kept, **more}, path, metadata={"format": "pt"})


def restate(adapter: Path, **options: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))


def copy(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    return folder


def test_several_adapters_on_tied_ends(bases: dict[str, Path], tmp_path: Path) -> None:
    """What the second adds to the first is what it adds to the model that the first was merged into."""
    base = bases["tied"]
    first = make_adapter(tmp_path / "1", base, seed=1, target_modules=["q_proj", "embed_tokens"], use_dora=True)
    second = make_adapter(tmp_path / "2", base, seed=2, target_modules=["q_proj", "lm_head"], r=3)
    merged(base, [Share(first)], tmp_path / "one")
    merged(base, [Share(first), Share(second)], tmp_path / "both")
    wanted = live(tmp_path / "one", second)
    torch.testing.assert_close(logits(load(tmp_path / "both")), wanted, atol=TOLERANCE, rtol=0)


def test_adapters_are_added_by_their_shares(bases: dict[str, Path], tmp_path: Path) -> None:
    base, targets = bases["untied"], ["q_proj", "down_proj", "embed_tokens"]
    adapters = [make_adapter(tmp_path / str(seed), base, seed=seed, target_modules=targets) for seed in (1, 2)]
    merged(base, [Share(adapters[0], 0.25), Share(adapters[1], -1.5)], tmp_path / "merged")
    model = PeftModel.from_pretrained(load(base), str(adapters[0]), adapter_name="one")
    model.load_adapter(str(adapters[1]), adapter_name="two")
    for module in model.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("one", 0.25)
            module.set_scale("two", -1.5)
    model.base_model.set_adapter(["one", "two"])
    torch.testing.assert_close(logits(load(tmp_path / "merged")), logits(model), atol=TOLERANCE, rtol=0)


def test_a_start_that_peft_converted(bases: dict[str, Path], tmp_path: Path) -> None:
    """What the weights were without the strongest directions is then in the adapter, of twice the rank."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=SOME, task_type="CAUSAL_LM", init_lora_weights="pissa")
    tuned = get_peft_model(load(bases["untied"]), config)
    tuned.peft_config["default"].init_lora_weights = True
    tuned.save_pretrained(tmp_path / "start")
    tuned.peft_config["default"].init_lora_weights = "pissa"
    for weight in tuned.parameters():
        weight.data += 0.05 * torch.randn_like(weight) * weight.requires_grad
    wanted = logits(tuned)
    tuned.save_pretrained(tmp_path / "adapter", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    merged(bases["untied"], [Share(tmp_path / "adapter")], tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize("whole", [None, ["embed_tokens", "lm_head"]], ids=["copied", "trained"])
def test_a_vocabulary_that_the_adapter_resized(
    bases: dict[str, Path], tmp_path: Path, kind: str, whole: list[str] | None
) -> None:
    model = load(bases[kind])
    torch.manual_seed(3)
    model.resize_token_embeddings(101, mean_resizing=False)
    config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=SOME, modules_to_save=whole)
    tuned = get_peft_model(model, config)
    for weight in tuned.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn_like(weight)
    tuned.save_pretrained(tmp_path / "adapter")
    wanted = logits(tuned)
    made = merged(bases[kind], [Share(tmp_path / "adapter")], tmp_path / "merged")
    assert made.config_changes["vocab_size"] == 101
    torch.testing.assert_close(logits(load(tmp_path / "merged")), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("quantised", ["nf4", "fp4", "int8"])
@pytest.mark.parametrize("kind", ["tied", "gpt2", "experts", "neox"])
def test_a_base_rounded_as_training_saw_it(bases: dict[str, Path], tmp_path: Path, quantised: str, kind: str) -> None:
    base = bases[kind]
    target, norm = {"gpt2": ("c_attn", "ln_f"), "neox": ("dense", "final_layer_norm")}.get(kind, ("q_proj", "norm"))
    options: dict[str, Any] = {"use_dora": quantised == "nf4", "modules_to_save": [norm]}
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=[target], **options)
    merged(base, [Share(adapter)], tmp_path / "merged", rounding=Rounding(quantised))
    scheme = BitsAndBytesConfig(
        load_in_4bit=quantised != "int8",
        load_in_8bit=quantised == "int8",
        bnb_4bit_quant_type=quantised if quantised != "int8" else "nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["lm_head"],
    )
    held = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=scheme, device_map={"": "cpu"}
    )
    rounded = held.dequantize().float()  # int8 also rounds what goes into a layer, which no weight can hold
    assert (logits(rounded) - logits(load(base))).abs().max() > 100 * TOLERANCE
    wanted = logits(PeftModel.from_pretrained(rounded, str(adapter)))
    torch.testing.assert_close(logits(load(tmp_path / "merged")), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("stored", ["apart", "stacked"])
def test_adapters_of_single_experts(bases: dict[str, Path], tmp_path: Path, stored: str) -> None:
    """As transformers 4 made them; PEFT stacks them when it loads them."""
    base = bases["experts"]
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    options = {"target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"]}
    torch.manual_seed(5)
    experts = {}
    for layer in range(2):
        for expert in range(4):
            for part, ins, outs in (("gate_proj", 32, 16), ("up_proj", 32, 16), ("down_proj", 16, 32)):
                module = f"base_model.model.model.layers.{layer}.mlp.experts.{expert}.{part}"
                experts[f"{module}.lora_A.weight"] = 0.1 * torch.randn(4, ins)
                experts[f"{module}.lora_B.weight"] = 0.1 * torch.randn(outs, 4)
    rewrite(adapter, **experts)
    restate(adapter, **options)
    wanted = live(base, adapter)
    if stored == "stacked":
        base = copy(base, tmp_path / "base")
        load(base).save_pretrained(base, save_original_format=False)
        assert any(key.endswith("experts.gate_up_proj") for key in load_file(base / "model.safetensors"))
    merged(base, [Share(adapter)], tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), wanted, atol=TOLERANCE, rtol=0)


def test_experts_of_a_base_that_stores_them_stacked(bases: dict[str, Path], tmp_path: Path) -> None:
    base = copy(bases["experts"], tmp_path / "base")
    load(base).save_pretrained(base, save_original_format=False)
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], target_parameters=STACKED)
    merged(base, [Share(adapter)], tmp_path / "merged")
    wanted = live(base, adapter)
    torch.testing.assert_close(logits(load(tmp_path / "merged")), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("kind", "inner"), [("gpt2", "transformer."), ("tied", "model."), ("neox", "gpt_neox.")])
def test_a_base_stored_without_the_name_of_the_inner_model(
    bases: dict[str, Path], tmp_path: Path, kind: str, inner: str
) -> None:
    base = copy(bases[kind], tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    bare = {key.removeprefix(inner): tensor for key, tensor in tensors.items()}
    save_file(bare, base / "model.safetensors", metadata={"format": "pt"})
    targets = {"gpt2": ["c_attn", "lm_head"], "tied": ["q_proj", "embed_tokens"], "neox": ["dense", "embed_out"]}
    adapter = make_adapter(tmp_path / "adapter", bases[kind], target_modules=targets[kind])
    merged(base, [Share(adapter)], tmp_path / "merged")
    wanted = live(bases[kind], adapter)
    torch.testing.assert_close(logits(load(tmp_path / "merged")), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_tied_ends_that_are_both_stored(bases: dict[str, Path], tmp_path: Path, module: str) -> None:
    base = copy(bases["tied"], tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file({**tensors, **head}, base / "model.safetensors", metadata={"format": "pt"})
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj", module])
    merged(base, [Share(adapter)], tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), live(base, adapter), atol=TOLERANCE, rtol=0)


def test_the_text_part_of_a_model_that_also_sees(tmp_path: Path) -> None:
    """Its parts have other names in memory than in its files, and its configuration has a part about text."""
    seen = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    parts = {"text_config": {**SIZES, "head_dim": 8}, "vision_config": {**seen, "image_size": 14, "patch_size": 7}}
    torch.manual_seed(0)
    kind = AutoModelForImageTextToText
    model = kind.from_config(AutoConfig.for_model("gemma3", **parts, mm_tokens_per_image=4)).float()
    model.save_pretrained(tmp_path / "base")
    model.name_or_path = str(tmp_path / "base")
    options = {"target_modules": r".*language_model.*q_proj|lm_head"}
    tuned = get_peft_model(model, LoraConfig(r=4, **options))
    for weight in tuned.parameters():
        weight.data += 0.1 * torch.randn_like(weight) * weight.requires_grad
    tuned.save_pretrained(tmp_path / "adapter")
    made = merged(tmp_path / "base", [Share(tmp_path / "adapter")], tmp_path / "merged")
    assert made.config_changes["text_config"]["tie_word_embeddings"] is False
    got = kind.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(got), logits(tuned), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("place", ["mtp.layers.0.", "model.layers.2."], ids=["own stack", "behind the others"])
def test_layers_that_predict_more_tokens_stay_as_they_are(bases: dict[str, Path], tmp_path: Path, place: str) -> None:
    """They are stored and not loaded, so no adapter has anything for them."""
    base = copy(bases["untied"], tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    more = {key.replace("model.layers.1.", place): value.clone() for key, value in tensors.items() if ".1." in key}
    rewrite(base, "model", **more)
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=SOME)
    merged(base, [Share(adapter)], tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), live(base, adapter), atol=TOLERANCE, rtol=0)
    kept = load_file(tmp_path / "merged/model.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in more.items())


def test_keys_that_a_layer_shares_with_those_before_it(bases: dict[str, Path], tmp_path: Path) -> None:
    base = copy(bases["untied"], tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "num_kv_shared_layers": 1}))
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj", "k_proj"])
    rewrite(adapter, without="layers.1.self_attn.k_proj")
    changed = {tensor.name for tensor in plan(base, [Share(adapter)]).tensors if tensor.changes}
    attention = {"0.self_attn.q_proj", "0.self_attn.k_proj", "1.self_attn.q_proj"}
    assert changed == {f"model.layers.{module}.weight" for module in attention}


class Convolutions(nn.Module):
    """One of each dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv1d(4, 6, 3), nn.Conv2d(4, 6, (3, 2)), nn.Conv3d(4, 6, 2)
        self.point = nn.Conv2d(4, 6, 1)

    def forward(self) -> list[torch.Tensor]:
        torch.manual_seed(0)
        sizes = ((self.one, (9,)), (self.two, (7, 8)), (self.three, (4, 5, 6)), (self.point, (3, 3)))
        return [layer(torch.randn(2, 4, *size)) for layer, size in sizes]


@pytest.mark.parametrize("dora", [False, True], ids=["plain", "dora"])
def test_convolutions_of_every_dimension(tmp_path: Path, dora: bool) -> None:
    torch.manual_seed(1)
    model = Convolutions()
    (tmp_path / "base").mkdir()
    save_file(model.state_dict(), tmp_path / "base/model.safetensors")
    (tmp_path / "base/config.json").write_text(json.dumps({"model_type": "convolutions"}))
    options: dict[str, Any] = {"use_dora": dora, "lora_bias": not dora, "use_rslora": True}
    targets = ["one", "two", "three", "point"]
    tuned = get_peft_model(model, LoraConfig(r=2, lora_alpha=8, target_modules=targets, **options))
    for weight in tuned.parameters():
        weight.data += 0.2 * torch.randn_like(weight) * weight.requires_grad
    tuned.save_pretrained(tmp_path / "adapter")
    restate(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "base"))
    (tmp_path / "merged").mkdir()
    made = plan(tmp_path / "base", [Share(tmp_path / "adapter")])
    stream.write(made, tmp_path / "merged", 10**9, lambda done, total: None)
    fresh = Convolutions()
    fresh.load_state_dict(load_file(tmp_path / "merged/model.safetensors"))
    with torch.inference_mode():
        for got, wanted in zip(fresh(), tuned.eval()(), strict=True):
            torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)
