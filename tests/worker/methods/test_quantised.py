"""Adapters above weights of 4 and 8 bits, on a CPU: what is computed, that looking at it changes nothing, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from studio import models
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker import methods, sharding
from studio.worker.ranks import Rank
from tests.worker.conftest import Start, Train

SEEDLING = models.folder_of("seedling")
IDS = torch.arange(10, 60)[None]
FOUR = [
    {"quantization_bit": 4, "quantization_type": kind, "double_quantization": twice}
    for kind in ("nf4", "fp4")
    for twice in (True, False)
]


def load(folder: Path, **keys: Any) -> Any:
    config = parse(TrainConfig, {"dataset": ["demo"], **keys})
    tokenizer, alone = AutoTokenizer.from_pretrained(folder), sharding.of(config, Rank(), folder)
    return methods.load(config, models.check(folder), tokenizer, "causal", alone)


def dequantised(model: Any) -> Any:
    """The same model with every weight written out in float32."""
    plain = AutoModelForCausalLM.from_pretrained(SEEDLING, dtype=torch.float32)
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
            weight = module.weight.data.float() * module.weight.SCB[:, None] / 127
        else:
            continue
        plain.get_submodule(name).weight.data.copy_(weight)
    return plain


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny model whose layers have biases, which is where repacked weights fail."""
    folder = tmp_path_factory.mktemp("biased")
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, eos_token_id=2, pad_token_id=0)).save_pretrained(folder)
    for path in tokenizer_dir.iterdir():
        shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.parametrize("keys", [*FOUR, {"quantization_bit": 8}], ids=str)
def test_what_is_trained_on_are_the_dequantised_weights(keys: dict[str, Any]) -> None:
    model, untouched = (load(SEEDLING, **keys) for _ in range(2))
    plain, exact = dequantised(untouched), AutoModelForCausalLM.from_pretrained(SEEDLING, dtype=torch.float32)
    model.train()
    torch.testing.assert_close(model(IDS).logits, plain(IDS).logits, atol=1e-4, rtol=0)
    assert (plain(IDS).logits - exact(IDS).logits).abs().mean() > 0.01  # it is quantised indeed
    assert isinstance(model.get_output_embeddings(), torch.nn.Linear)
    assert type(model.get_output_embeddings()) is torch.nn.Linear


@pytest.mark.parametrize("keys", FOUR, ids=str)
def test_looking_at_a_model_in_4_bits_changes_nothing(biased: Path, keys: dict[str, Any], tmp_path: Path) -> None:
    model = load(biased, **keys)
    model.train()
    before = model(IDS).logits.detach()
    held = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, before, atol=1e-5, rtol=0)
    assert all(torch.equal(weight, held[name]) for name, weight in model.state_dict().items())
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").train()
    torch.testing.assert_close(again(IDS).logits, before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_training_with_evaluations_resumes_exactly_and_its_adapter_fits(
    train: Train, biased: Path, bits: int, tmp_path: Path
) -> None:
    keys = {"model_name_or_path": str(biased), "quantization_bit": bits, "val_size": 4, "eval_steps": 2}
    steps = {**keys, "max_steps": 6, "save_steps": 3, "save_total_limit": 9, "learning_rate": 1e-2}
    whole = train("whole", **steps)
    assert whole.losses[6] < whole.losses[1]
    evals = [event["eval_loss"] for event in whole.events("eval")]
    assert evals[-1] < evals[0]
    weights = load_file(whole.run_dir / "adapter/adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}  # TRL would round them to bfloat16
    assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in weights.values())
    assert whole.json("adapter/base.json")["path"] == str(biased)
    (tmp_path / "resumed/checkpoints").mkdir(parents=True)
    (whole.run_dir / "checkpoints/checkpoint-3").rename(tmp_path / "resumed/checkpoints/checkpoint-3")
    resumed = train("resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-3")
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 3}
    tuned = PeftModel.from_pretrained(load(biased, **keys), str(whole.run_dir / "adapter"))
    plain = load(biased, **keys)
    assert (tuned(IDS).logits - plain(IDS).logits).abs().max() > 0.01


@pytest.mark.parametrize("bits", [4, 8])
def test_activations_computed_twice_are_the_same(train: Train, biased: Path, bits: int) -> None:
    keys = {"model_name_or_path": str(biased), "quantization_bit": bits, "max_steps": 3, "save_steps": 0}
    once, twice = (train(f"run-{again}", gradient_checkpointing=again, **keys) for again in (False, True))
    assert twice.losses == pytest.approx(once.losses, abs=1e-6)


def test_a_worker_process_trains_in_4_bits(start: Start) -> None:
    worker = start(quantization_bit=4, optim="paged_adamw_8bit", max_steps=2, save_steps=0)
    assert worker.wait() == 0, worker.log
    assert (worker.run_dir / "adapter/adapter_model.safetensors").exists()
    assert "MatMul" not in worker.log


def test_a_compressed_checkpoint_is_trained_on(train: Train, tmp_path: Path) -> None:
    folder = compressed(tmp_path / "compressed")
    run = train(model_name_or_path=str(folder), learning_rate=1e-2, max_steps=4, save_steps=0)
    assert run.losses[4] < run.losses[1]
    assert run.json("adapter/base.json")["path"] == str(folder)
    with pytest.raises(ModelError, match=r"is quantised already .* set finetuning_type: lora"):
        train("full", model_name_or_path=str(folder), finetuning_type="full")
    with pytest.raises(ModelError, match=r"is quantised already .*: leave quantization_bit empty"):
        train("twice", model_name_or_path=str(folder), quantization_bit=4)


@pytest.mark.parametrize(
    ("method", "words"),
    [("gptq", "pip install gptqmodel"), ("awq", "pip install gptqmodel"), ("hqq", "take the 16-bit model")],
)
def test_other_quantised_checkpoints_are_refused_with_what_they_need(
    tiny_model: Path, tmp_path: Path, method: str, words: str
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / method)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
    with pytest.raises(ModelError, match=f"is quantised already .{method}.*{words}"):
        load(folder)


def compressed(folder: Path) -> Path:
    """The bundled model with weights of 8 bits, as llm-compressor leaves them."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme

    model = AutoModelForCausalLM.from_pretrained(SEEDLING, dtype=torch.float32)
    groups = {"group_0": preset_name_to_scheme("W8A16", ["Linear"])}
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=["lm_head"]))
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            groups_of_128 = module.weight.detach().reshape(len(module.weight), -1, 128)
            module.weight_scale.data.copy_(groups_of_128.abs().amax(-1) / 127)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(SEEDLING / name, folder / name)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert any(name.endswith("weight_packed") for name in weights.offset_keys())
    return folder
