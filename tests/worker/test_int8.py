"""The W8A8 checkpoint of a model: its weights, what is left alone, whether Transformers reads it, refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, MixtralConfig

from studio import models
from studio.errors import ModelError
from studio.worker import int8

SEEDLING = models.folder_of("seedling")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model in int8, made the way the benchmark does."""
    target = tmp_path_factory.mktemp("made") / "int8"
    words = (sys.executable, "-m", "studio.worker.int8", str(SEEDLING), str(target))
    subprocess.run(words, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return target


def test_each_weight_of_a_linear_layer_is_the_nearest_of_its_steps(made: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (SEEDLING, made))
    scaled = {name.removesuffix("_scale") for name in after.keys() - before.keys()}
    assert len(scaled) == 6 * 7  # layers, and matrices in each
    for name in scaled:
        values, scale = before[name].float(), after[f"{name}_scale"]
        assert after[name].dtype is torch.int8
        assert scale.shape == (len(values), 1)
        assert ((after[name] * scale - values).abs() <= scale * 0.5001).all()
        assert (after[name].abs().amax(dim=1) == 127).float().mean() > 0.4  # the steps reach as far as the weights
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - scaled)


def test_transformers_reads_it_and_answers_nearly_the_same(made: Path) -> None:
    exact, rounded = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (SEEDLING, made))
    tokenizer = AutoTokenizer.from_pretrained(made)
    question = [{"role": "user", "content": "Tell me a short story."}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    text = exact.generate(**prompt, max_new_tokens=24, do_sample=False)
    with torch.inference_mode():
        before, after = (model(text).logits[0, -25:-1].log_softmax(-1) for model in (exact, rounded))
    chosen = text[0, -24:, None]
    assert 0.0001 < (before - after).gather(-1, chosen).abs().mean() < 0.1
    assert (after.argmax(-1) == chosen[:, 0]).float().mean() > 0.9


def test_it_is_a_whole_model_folder_that_takes_less_room(made: Path) -> None:
    assert models.chat_template(made) == models.chat_template(SEEDLING)
    assert models.check(made).architecture == "LlamaForCausalLM"
    assert (made / "model.safetensors").stat().st_size < 0.7 * (SEEDLING / "model.safetensors").stat().st_size
    assert not made.with_name("int8.part").exists()


def test_a_model_in_several_files_stays_in_several_with_an_index_of_all(tmp_path: Path) -> None:
    source = tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(SEEDLING).save_pretrained(source, max_shard_size="4MB")
    shutil.copy(SEEDLING / "tokenizer.json", source)
    int8.write(source, tmp_path / "int8")
    index = json.loads((tmp_path / "int8" / models.WEIGHTS_INDEX).read_text())["weight_map"]
    files = models.weight_files(tmp_path / "int8")
    assert len(files) > 1
    assert {name: file for file in files for name in load_file(tmp_path / "int8" / file)} == index
    AutoModelForCausalLM.from_pretrained(tmp_path / "int8")


@pytest.mark.parametrize("kind", ["conv1d", "experts"])
def test_what_is_no_stack_of_linear_layers_is_refused_by_the_name_of_its_weights(tmp_path: Path, kind: str) -> None:
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
    if kind == "conv1d":
        GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / kind)
    else:
        AutoModelForCausalLM.from_config(MixtralConfig(**sizes, **heads)).save_pretrained(tmp_path / kind)
    shutil.copy(SEEDLING / "tokenizer.json", tmp_path / kind)
    with pytest.raises(ModelError, match="c_attn" if kind == "conv1d" else "experts"):
        int8.write(tmp_path / kind, tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


def test_a_checkpoint_is_not_quantised_twice(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantised already"):
        int8.write(made, tmp_path / "int8")


def test_damaged_weights_leave_nothing_half_made(tmp_path: Path) -> None:
    source = shutil.copytree(SEEDLING, tmp_path / "nan")
    weights = load_file(source / "model.safetensors")
    weights["model.layers.3.mlp.up_proj.weight"][5, 5] = torch.nan
    save_file(weights, source / "model.safetensors")
    with pytest.raises(ModelError, match=r"layers\.3\.mlp\.up_proj.* NaN"):
        int8.write(source, tmp_path / "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["nan"]


def test_an_architecture_that_nobody_knows_is_refused_in_one_line(tmp_path: Path) -> None:
    source = shutil.copytree(SEEDLING, tmp_path / "strange")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "strange"}))
    with pytest.raises(ModelError, match="none of the models that Transformers knows") as caught:
        int8.write(source, tmp_path / "int8")
    assert "\n" not in str(caught.value)
