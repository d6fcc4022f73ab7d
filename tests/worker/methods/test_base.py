"""Models that are changed before they are trained: merged, grown, stretched; and what becomes of the change."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio import models
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker import methods
from studio.worker.methods import leaving
from tests.worker.conftest import Finished, Train, make_model
from tests.worker.merging.bases import IDS, load, make_adapter

STEPS = {"max_steps": 4, "save_steps": 0, "learning_rate": 1e-2, "bf16": False}
NEW = {"resize_vocab": True, "add_tokens": "plus,What is", "add_special_tokens": "<think>"}


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return make_model(tmp_path_factory.mktemp("wide"), tokenizer_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return make_model(tmp_path_factory.mktemp("untied"), tokenizer_dir, dtype=torch.float32, tie_word_embeddings=False)


def prepare(folder: Path, run_dir: Path, **keys: Any) -> models.ModelInfo:
    config = parse(TrainConfig, {"dataset": ["demo"], **keys})
    return methods.prepare(config, models.check(folder), run_dir)


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(ids).logits.float()


def left(run: Finished) -> tuple[Any, Any]:
    """Model and tokenizer of what a run has left, put together by the libraries alone."""
    adapter = run.run_dir / "adapter"
    if not adapter.exists():
        return AutoModelForCausalLM.from_pretrained(run.run_dir / "model"), AutoTokenizer.from_pretrained(
            run.run_dir / "model"
        )
    base = AutoModelForCausalLM.from_pretrained(run.json("adapter/base.json")["path"], dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(adapter)), AutoTokenizer.from_pretrained(adapter)


@pytest.mark.parametrize(
    ("tied", "keys"),
    [
        (True, {}),
        (False, {}),
        (True, {"quantization_bit": 4}),
        (False, {"finetuning_type": "freeze"}),
        (True, {"finetuning_type": "full"}),
    ],
    ids=str,
)
def test_new_tokens_are_trained_and_saved(
    train: Train,
    wide_model: Path,
    untied_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tied: bool,
    keys: dict[str, Any],
) -> None:
    seen = []
    for name in ("adapter", "model"):
        save = getattr(leaving, name)
        at = 1 if name == "adapter" else 0
        monkeypatch.setattr(
            leaving, name, lambda *args, save=save, at=at: (seen.append(logits(args[at], ids)), save(*args))
        )
    ids = torch.tensor([[310, 320, 40, 321, 322, 50]])  # the last three tokens are new
    folder = wide_model if tied else untied_model
    run = train(model_name_or_path=str(folder), **STEPS, **NEW, **keys)
    assert run.losses[4] < run.losses[1]
    model, tokenizer = left(run)
    assert tokenizer.convert_tokens_to_ids(["plus", "What is", "<think>"]) == [320, 321, 322]
    assert tokenizer("What is one plus one?").input_ids.count(320) == 1
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == 323
    assert not torch.equal(rows[320], rows[321])  # they began as the same mean
    if "quantization_bit" not in keys:  # there the base that is left is the one in 16 bits
        torch.testing.assert_close(logits(model, ids), seen[0], atol=2e-5, rtol=0)
    if not keys:
        old = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        assert torch.equal(rows[:320], old)
        config = json.loads((run.run_dir / "base/config.json").read_text())
        assert (config["vocab_size"], config["made_by"], "new_rows" in config) == (323, "run", False)
        again = train("again", model_name_or_path=str(run.run_dir / "base"), **STEPS)
        assert not (again.run_dir / "base").exists()


def test_a_resumed_training_of_new_tokens_goes_on_exactly(train: Train, wide_model: Path) -> None:
    steps = {"model_name_or_path": str(wide_model), "max_steps": 6, "save_steps": 3, "save_total_limit": 9, **NEW}
    whole = train("whole", **steps)
    (whole.run_dir.parent / "resumed/checkpoints").mkdir(parents=True)
    checkpoint = Path("checkpoints/checkpoint-3")
    (whole.run_dir / checkpoint).rename(whole.run_dir.parent / "resumed" / checkpoint)
    resumed = train("resumed", **steps, resume_from_checkpoint=str(checkpoint))
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 3}


def test_new_rows_begin_as_the_mean_of_the_old(wide_model: Path, tmp_path: Path) -> None:
    info = prepare(wide_model, tmp_path, **NEW)
    old, new = (
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in (wide_model, info.path)
    )
    assert torch.equal(new[:320], old)
    torch.testing.assert_close(new[320:], old.mean(0).expand(3, -1))


def test_an_adapter_on_a_tied_head_is_merged_into_the_head_alone(wide_model: Path, tmp_path: Path) -> None:
    """PEFT's own merge would change the embedding, too."""
    adapter = make_adapter(tmp_path / "adapter", wide_model, target_modules=["q_proj", "lm_head"])
    keys = {"adapter_name_or_path": str(adapter), "create_new_adapter": True}
    found = prepare(wide_model, tmp_path / "run", **keys)
    wanted = logits(PeftModel.from_pretrained(load(wide_model), str(adapter)), IDS)
    torch.testing.assert_close(logits(load(found.path), IDS), wanted, atol=2e-5, rtol=0)
    assert not (tmp_path / "run/tmp/merged").exists()


def test_a_vocabulary_that_fits_its_tokenizer_is_left_alone(wide_model: Path, tmp_path: Path) -> None:
    assert prepare(wide_model, tmp_path, resize_vocab=True).path == wide_model
    assert prepare(wide_model, tmp_path, resize_vocab=True, add_special_tokens="<|im_end|>").path == wide_model


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
def test_positions_are_stretched_to_the_cutoff(wide_model: Path, tmp_path: Path, kind: str) -> None:
    base = prepare(wide_model, tmp_path, rope_scaling=kind, cutoff_len=1500).path
    rope = json.loads((base / "config.json").read_text())["rope_parameters"]
    assert (rope["rope_type"], rope["factor"]) == (kind, 3.0)
    assert models.within_context(base, 99_999) == 1536
    assert models.within_context(wide_model, 99_999) == 512
    stretched, plain = (AutoModelForCausalLM.from_pretrained(folder) for folder in (base, wide_model))
    ids = torch.arange(1200)[None] % 300
    assert (logits(stretched, ids) - logits(plain, ids)).abs().max() > 1e-3
    assert os.path.samefile(base / "model.safetensors", wide_model / "model.safetensors")  # nothing of it has changed


def test_a_stretched_model_is_left_with_its_adapter(train: Train, wide_model: Path) -> None:
    run = train(model_name_or_path=str(wide_model), rope_scaling="yarn", cutoff_len=600, **{**STEPS, "max_steps": 1})
    assert run.json("adapter/base.json")["path"] == str(run.run_dir / "base")
    assert models.within_context(run.run_dir / "base", 99_999) == 1024


@pytest.mark.parametrize(
    ("keys", "change", "words"),
    [
        ({"cutoff_len": 512}, {}, "takes 512 tokens and cutoff_len is 512: raise cutoff_len"),
        ({"cutoff_len": 600}, {"rope_parameters": None}, "no plain rotary ones"),
        ({"cutoff_len": 600}, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "no plain rotary ones"),
    ],
)
def test_positions_that_cannot_be_stretched_are_refused(
    wide_model: Path, tmp_path: Path, keys: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    folder = shutil.copytree(wide_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=f"rope_scaling: .*{words}"):
        prepare(folder, tmp_path / "run", rope_scaling="linear", **keys)


def test_a_quantised_model_is_not_grown(wide_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(wide_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="is quantised, so its vocabulary cannot grow"):
        prepare(folder, tmp_path / "run", **NEW)
