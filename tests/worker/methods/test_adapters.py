"""Adapters as configured: where they sit, what is saved of them, and that what is saved is what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker import methods
from studio.worker.merging import stream
from studio.worker.merging.plan import plan
from studio.worker.merging.work import Share
from studio.worker.methods import adapters, leaving
from tests.worker.conftest import Finished, Train, make_model

IDS = torch.arange(20, 60)[None]
STEPS = {"max_steps": 4, "save_steps": 0, "learning_rate": 1e-2, "bf16": False}


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny model in float32, so that nothing is lost to rounding."""
    return make_model(tmp_path_factory.mktemp("wide"), tokenizer_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return make_model(tmp_path_factory.mktemp("untied"), tokenizer_dir, dtype=torch.float32, tie_word_embeddings=False)


def config(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": ["demo"], **keys})


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(IDS).logits.float()


def base_of(run: Finished) -> Path:
    return Path(run.json("adapter/base.json")["path"])


def tuned(run: Finished) -> Any:
    """What a run has left, put together by PEFT alone."""
    model = AutoModelForCausalLM.from_pretrained(base_of(run), dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(run.run_dir / "adapter"))


def folded(run: Finished, target: Path) -> Any:
    """What a run has left, put together by this program's merge."""
    target.mkdir()
    stream.write(plan(base_of(run), [Share(run.run_dir / "adapter")], "float32"), target, 10**9, lambda *_: None)
    shutil.copy(base_of(run) / "config.json", target / "config.json")
    return AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Logits of each trained model as it is before anything is saved of it."""
    seen: list[torch.Tensor] = []
    save = leaving.adapter

    def look(config: TrainConfig, trained: Any, *rest: Any) -> None:
        seen.append(logits(trained))
        save(config, trained, *rest)

    monkeypatch.setattr(leaving, "adapter", look)
    return seen


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_rslora": True, "lora_alpha": 5},
        {"use_dora": True},
        {"pissa_init": True, "pissa_iter": -1},
        {"pissa_init": True, "pissa_convert": True},
        {"pissa_init": True, "pissa_convert": True, "use_rslora": True, "lora_rank": 4},
        {"use_adalora": True, "max_steps": 12, "lora_rank": 2},
        {"additional_target": "embed_tokens"},
        {"additional_target": "lm_head,norm"},
    ],
    ids=lambda keys: "+".join(keys) or "plain",
)
def test_what_is_saved_is_what_was_trained(
    train: Train, wide_model: Path, ends: list[torch.Tensor], tmp_path: Path, keys: dict[str, Any]
) -> None:
    run = train(model_name_or_path=str(wide_model), **{**STEPS, **keys})
    torch.testing.assert_close(logits(tuned(run)), ends[0], atol=2e-5, rtol=0)
    plain = AutoModelForCausalLM.from_pretrained(wide_model, dtype=torch.float32)
    assert (ends[0] - logits(plain)).abs().max() > 0.01
    torch.testing.assert_close(logits(folded(run, tmp_path / "folded")), ends[0], atol=2e-5, rtol=0)
    described = run.json("adapter/adapter_config.json")
    assert (described["peft_type"], described["init_lora_weights"]) == ("LORA", True)
    assert not described["modules_to_save"]
    own_base = "additional_target" in keys or (keys.get("pissa_init") and not keys.get("pissa_convert"))
    assert base_of(run) == (run.run_dir / "base" if own_base else wide_model)
    assert described["base_model_name_or_path"] == str(base_of(run))


def test_a_head_of_its_own_is_trained_alone(train: Train, untied_model: Path, ends: list[torch.Tensor]) -> None:
    run = train(model_name_or_path=str(untied_model), additional_target="lm_head", **STEPS)
    torch.testing.assert_close(logits(tuned(run)), ends[0], atol=2e-5, rtol=0)
    before, after = (load_file(folder / "model.safetensors") for folder in (untied_model, base_of(run)))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"lm_head.weight"}


def test_a_tied_embedding_stays_tied(train: Train, wide_model: Path) -> None:
    run = train(model_name_or_path=str(wide_model), additional_target="embed_tokens", **STEPS)
    after = AutoModelForCausalLM.from_pretrained(base_of(run))
    assert after.get_output_embeddings().weight is after.get_input_embeddings().weight
    assert "lm_head.weight" not in load_file(base_of(run) / "model.safetensors")


def test_a_base_that_was_changed_is_not_taken_for_the_plain_one(train: Train, wide_model: Path) -> None:
    run = train(model_name_or_path=str(wide_model), additional_target="norm", **STEPS)
    with pytest.raises(ModelError, match=r"was trained on .*/base, not on .*: set model_name_or_path"):
        train("refused", model_name_or_path=str(wide_model), adapter_name_or_path=str(run.run_dir / "adapter"), **STEPS)
    on = train("on", model_name_or_path=str(base_of(run)), adapter_name_or_path=run.run_dir.name, **STEPS)
    assert on.losses[1] < run.losses[1]


def test_an_adapter_is_continued_where_it_ended(train: Train, wide_model: Path, ends: list[torch.Tensor]) -> None:
    keys = {"model_name_or_path": str(wide_model), **STEPS}
    first = train("first", lora_rank=4, **keys)
    second = train("second", adapter_name_or_path="first", **keys)
    assert second.losses[1] < first.losses[1] - 0.1
    assert second.json("adapter/adapter_config.json")["r"] == 4
    assert base_of(second) == wide_model
    torch.testing.assert_close(logits(tuned(second)), ends[1], atol=2e-5, rtol=0)


def test_adapters_are_merged_in_order_as_peft_merges_them(
    train: Train, wide_model: Path, ends: list[torch.Tensor]
) -> None:
    keys = {"model_name_or_path": str(wide_model), **STEPS}
    one, two = train("one", **keys), train("two", use_dora=True, **{**keys, "learning_rate": 2e-2})
    names = f"one,{two.run_dir / 'adapter'}"
    stacked = train("stacked", adapter_name_or_path=names, create_new_adapter=True, **keys)
    model = AutoModelForCausalLM.from_pretrained(wide_model)
    for run in (one, two):
        model = PeftModel.from_pretrained(model, str(run.run_dir / "adapter")).merge_and_unload()
    assert base_of(stacked) == stacked.run_dir / "base"
    base = AutoModelForCausalLM.from_pretrained(base_of(stacked))
    torch.testing.assert_close(logits(base), logits(model), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits(tuned(stacked)), ends[-1], atol=2e-5, rtol=0)
    on = train("on", adapter_name_or_path=names, **keys)  # the first is merged, the second trained on
    assert on.json("adapter/adapter_config.json")["use_dora"]
    torch.testing.assert_close(logits(tuned(on)), ends[-1], atol=2e-5, rtol=0)


def test_an_adapter_that_talked_goes_on_to_rate(wide_model: Path, tmp_path: Path, train: Train) -> None:
    first = train("first", model_name_or_path=str(wide_model), **STEPS)
    model = AutoModelForSequenceClassification.from_pretrained(wide_model, num_labels=1, dtype=torch.float32)
    rating = adapters.resume(first.run_dir / "adapter", model)
    assert [name for name, weight in rating.named_parameters() if weight.requires_grad and "score" in name]
    talked = load_file(first.run_dir / "adapter/adapter_model.safetensors")
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B"
    assert torch.equal(rating.get_parameter(f"{name}.default.weight"), talked[f"{name}.weight"])


@pytest.mark.parametrize(
    ("target", "layers", "count"),
    [
        ("all", None, 14),
        ("q_proj,mlp.down_proj", None, 4),
        (r".*layers\.1\.mlp\.(up|down)_proj", None, 2),
        ("all", "1", 7),
    ],
)
def test_targets_are_all_or_names_or_one_pattern(wide_model: Path, target: str, layers: str | None, count: int) -> None:
    from peft import get_peft_model

    model = AutoModelForCausalLM.from_pretrained(wide_model)
    model, adapter = methods.attach(config(lora_target=target, layers_to_transform=layers), model, Path())
    names = [name for name, _ in get_peft_model(model, adapter).named_parameters() if "lora_A" in name]
    assert len(names) == count


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"lora_target": r".*\.attention\..*"}, "matches no layer. It must match whole paths, such as model.layers.0"),
        ({"lora_target": r".*mlp.*"}, "matches model.layers.0.mlp, which is no linear layer"),
        ({"lora_target": ".*(q,proj"}, "is no regular expression"),
        ({"lora_target": ".*lm_head"}, "matches lm_head, which is no linear layer to adapt"),
        ({"layers_to_transform": "0-2"}, r"the model's layers are 0 to 1 \(got 2\)"),
        ({"additional_target": "head"}, "additional_target: the model has no head; it has .*embed_tokens.*lm_head"),
        ({"adapter_name_or_path": "/nowhere"}, "/nowhere is not a folder"),
    ],
)
def test_what_the_model_does_not_have_is_refused(wide_model: Path, keys: dict[str, Any], words: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(wide_model)
    with pytest.raises(ModelError, match=words):
        methods.attach(config(**keys), model, Path("/saves/run"))


def test_an_adapter_of_another_shape_is_refused(train: Train, wide_model: Path, tmp_path: Path) -> None:
    first = train("first", model_name_or_path=str(wide_model), **STEPS)
    other = AutoModelForCausalLM.from_pretrained(wide_model)
    other.model.layers[1].mlp.up_proj = torch.nn.Linear(64, 100, bias=False)
    with pytest.raises(ModelError, match=r"(?s)does not fit this model: .*size mismatch"):
        adapters.resume(first.run_dir / "adapter", other)


@pytest.mark.parametrize(
    "keys",
    [
        {"pissa_init": True},
        {"use_adalora": True},
        {"use_adalora": True, "bf16": True},
        {"additional_target": "embed_tokens"},
    ],
)
def test_a_resumed_training_goes_on_exactly(train: Train, wide_model: Path, keys: dict[str, Any]) -> None:
    half = 10 if "use_adalora" in keys else 2
    saved = {"max_steps": 2 * half, "save_steps": half, "save_total_limit": 9}
    steps = {**saved, "model_name_or_path": str(wide_model), **keys}
    whole = train("whole", **steps, learning_rate=1e-2)
    resumed_dir = whole.run_dir.parent / "resumed"
    (resumed_dir / "checkpoints").mkdir(parents=True)
    checkpoint = f"checkpoints/checkpoint-{half}"
    (whole.run_dir / checkpoint).rename(resumed_dir / checkpoint)
    resumed = train("resumed", **steps, learning_rate=1e-2, resume_from_checkpoint=checkpoint)
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > half}
    ours, theirs = (load_file(run.run_dir / "adapter/adapter_model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_ranks_are_not_pruned_in_a_few_steps(train: Train) -> None:
    with pytest.raises(ModelError, match="use_adalora: 4 steps are too few"):
        train(use_adalora=True, **STEPS)


def test_ranks_are_pruned_to_the_budget(train: Train, wide_model: Path) -> None:
    keys = {"use_adalora": True, "adalora_init_r": 6, "lora_rank": 2, "max_steps": 12}
    run = train(model_name_or_path=str(wide_model), **{**STEPS, **keys})
    weights = load_file(run.run_dir / "adapter/adapter_model.safetensors")
    ranks = [int((weight.abs().sum(1) > 0).sum()) for name, weight in weights.items() if "lora_A" in name]
    assert len(ranks) == 14
    assert sum(ranks) <= 2 * len(ranks)
    assert len(set(ranks)) > 1
    assert run.json("adapter/adapter_config.json")["r"] == max(ranks)
    assert "orth" not in json.dumps(run.json("adapter/adapter_config.json"))
