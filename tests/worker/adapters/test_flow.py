"""The adapter tools: what comes out is compared with PEFT and with whole models, both in float32 and in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from studio.config.adapter import AdapterConfig
from studio.config.load import parse, save
from studio.errors import ConfigError, ModelError
from studio.exports import report
from studio.models import check_adapter
from studio.worker.adapters import flow
from studio.worker.door import Clock, Desk
from studio.worker.report import Reporter
from studio.worker.stop import Requests
from tests.worker.conftest import Finished, Start, Train, make_model

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.arange(40).reshape(2, 20)


@dataclass(frozen=True)
class Made(Finished):
    """A finished run of the tools."""

    @property
    def adapter(self) -> Path:
        return self.run_dir / "adapter"

    @property
    def facts(self) -> Any:
        found = report.read(self.run_dir)
        assert found is not None
        return found.facts


Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Use a tool in this process; a desk without STOP leaves the watcher out."""

    def _make(**keys: Any) -> Made:
        run_dir = tmp_path / "saves" / f"run-{len(list((tmp_path / 'saves').glob('*')))}"
        run_dir.mkdir(parents=True)
        save(parse(AdapterConfig, keys), run_dir / "config.yaml")
        reporter = Reporter(run_dir)
        try:
            flow.make(Desk(run_dir, reporter, Requests(run_dir, last_words=lambda: None), Clock()))
        finally:
            reporter.close()
        return Made(run_dir)

    (tmp_path / "saves").mkdir()
    return _make


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return make_model(folder, tokenizer_dir, tie_word_embeddings=False, dtype=torch.float32)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return make_model(tmp_path_factory.mktemp("tied"), tokenizer_dir, dtype=torch.float32)


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def logits(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    model = load(folder)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()(IDS).logits


def adapt(folder: Path, base: Path, seed: int = 1, r: int = 4, **options: Any) -> Path:
    """A LoRA adapter with weights large enough to matter, as PEFT saves it."""
    torch.manual_seed(seed)
    keys = {"target_modules": LINEAR, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options}
    peft = get_peft_model(load(base), LoraConfig(r=r, **keys))
    for name, weight in peft.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            torch.nn.init.normal_(weight, std=0.2)
        elif "modules_to_save" in name:
            weight.data *= 1.5
    peft.save_pretrained(folder, save_embedding_layers=False)
    return folder


def deltas(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What PEFT adds to each weight of the base."""
    before = load(base).state_dict()
    after = PeftModel.from_pretrained(load(base), adapter).merge_and_unload().state_dict()
    return {name: after[name] - before[name] for name in before}


def fine_tuned(target: Path, base: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A copy of the base with its stored weights changed."""
    shutil.copytree(base, target)
    weights = load_file(base / "model.safetensors")
    torch.manual_seed(2)
    changed = {name: weight + change(name, weight) for name, weight in weights.items()}
    save_file(changed, target / "model.safetensors", {"format": "pt"})
    return target


def low_rank(name: str, weight: torch.Tensor, rank: int = 3) -> torch.Tensor:
    """A change of rank 3 of what is a linear layer."""
    if not name.endswith("proj.weight"):
        return torch.zeros_like(weight)
    return torch.randn(weight.shape[0], rank) @ torch.randn(rank, weight.shape[1]) * 0.02


def anything(name: str, weight: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(weight) * 0.02


def test_a_difference_of_low_rank_is_found_exactly(make: Make, base: Path, tmp_path: Path) -> None:
    tuned = fine_tuned(tmp_path / "tuned", base, low_rank)
    made = make(action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(base), lora_rank=4)
    assert made.facts["error"] < 1e-5
    assert made.facts["left_out"] == {}
    torch.testing.assert_close(logits(base, made.adapter), logits(tuned), atol=1e-4, rtol=1e-4)
    assert sorted(made.json("adapter/adapter_config.json")["target_modules"]) == sorted(LINEAR)
    assert check_adapter(made.adapter).base == str(base)
    assert (made.adapter / "chat_template.jinja").exists()


def test_the_error_of_a_small_rank_is_the_least_there_is(make: Make, base: Path, tmp_path: Path) -> None:
    tuned = fine_tuned(tmp_path / "tuned", base, anything)
    made = make(action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(base), lora_rank=8)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for module, error in made.facts["modules"].items():
        values = torch.linalg.svdvals((after[f"{module}.weight"] - before[f"{module}.weight"]).double())
        assert error == pytest.approx(float(values[8:].norm() / values.norm()), rel=1e-3)
    found, other = made.facts["total_error"], made.facts["error"]
    missing = sum(norm**2 for norm in made.facts["left_out"].values())
    change = sum(float((after[name] - before[name]).norm()) ** 2 for name in before)
    assert found == pytest.approx(((other**2 * (change - missing) + missing) / change) ** 0.5, rel=1e-4)
    assert set(made.facts["left_out"]) >= {"model.norm.weight", "model.embed_tokens.weight"}
    assert "Left out" in (made.run_dir / "report.md").read_text()


@pytest.mark.parametrize("ends", ["untied", "tied"])
def test_what_is_no_linear_layer_is_kept_whole_when_asked(
    make: Make, base: Path, tied: Path, tmp_path: Path, ends: str
) -> None:
    start = tied if ends == "tied" else base
    tuned = fine_tuned(tmp_path / "tuned", start, anything)
    made = make(
        action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(start), lora_rank=512,
        additional_target="all",
    )  # fmt: skip
    assert made.facts["total_error"] < 1e-5
    torch.testing.assert_close(logits(start, made.adapter), logits(tuned), atol=1e-4, rtol=1e-4)


def test_one_module_can_be_kept_whole_by_name(make: Make, base: Path, tmp_path: Path) -> None:
    tuned = fine_tuned(tmp_path / "tuned", base, anything)
    made = make(
        action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(base),
        additional_target="layers.1.self_attn.q_proj,lm_head",
    )  # fmt: skip
    kept = made.json("adapter/adapter_config.json")
    assert kept["modules_to_save"] == ["lm_head", "model.layers.1.self_attn.q_proj"]
    assert "model.layers.0.self_attn.q_proj" in kept["target_modules"]
    assert "q_proj" not in kept["target_modules"]
    assert logits(base, made.adapter).isfinite().all()


def test_a_head_of_its_own_stays_as_it_is(make: Make, base: Path, tmp_path: Path) -> None:
    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(weight) if name == "lm_head.weight" else anything(name, weight)

    tuned = fine_tuned(tmp_path / "tuned", base, change)
    made = make(
        action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(base), lora_rank=512,
        additional_target="all",
    )  # fmt: skip
    assert "lm_head" not in made.json("adapter/adapter_config.json")["modules_to_save"]
    torch.testing.assert_close(logits(base, made.adapter), logits(tuned), atol=1e-4, rtol=1e-4)


def test_a_broken_model_is_named(make: Make, base: Path, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tuned = fine_tuned(tmp_path / "tuned", base, lambda each, weight: weight * (float("nan") if each == name else 1.0))
    with pytest.raises(ModelError, match=f"{name} has values that are not finite"):
        make(action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(base))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A model whose linear layers are stored the other way around, and whose tied head is one of two embeddings."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, n_positions=64)).save_pretrained(folder)
    for path in tokenizer_dir.iterdir():
        shutil.copy(path, folder)
    return folder


def test_weights_that_are_stored_the_other_way_around(make: Make, gpt2: Path, tmp_path: Path) -> None:
    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        return low_rank("proj.weight" if ".c_" in name and weight.ndim == 2 else name, weight)

    tuned = fine_tuned(tmp_path / "tuned", gpt2, change)
    made = make(action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(gpt2), lora_rank=4)
    assert made.json("adapter/adapter_config.json")["fan_in_fan_out"]
    torch.testing.assert_close(logits(gpt2, made.adapter), logits(tuned), atol=1e-4, rtol=1e-4)


def test_of_two_embeddings_the_head_is_that_of_words(make: Make, gpt2: Path, tmp_path: Path) -> None:
    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        is_bias = ".c_" in name and weight.ndim == 1
        return torch.zeros_like(weight) if is_bias else anything(name, weight)

    tuned = fine_tuned(tmp_path / "tuned", gpt2, change)
    made = make(
        action="extract", tuned_model_name_or_path=str(tuned), model_name_or_path=str(gpt2), lora_rank=512,
        additional_target="all",
    )  # fmt: skip
    assert made.json("adapter/adapter_config.json")["modules_to_save"][-1] == "lm_head"
    torch.testing.assert_close(logits(gpt2, made.adapter), logits(tuned), atol=1e-4, rtol=1e-4)


def test_equal_models_have_no_difference(make: Make, base: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(base, tmp_path / "twin")
    with pytest.raises(ModelError, match="no linear layer differs"):
        make(action="extract", tuned_model_name_or_path=str(twin), model_name_or_path=str(base))


def test_a_checkpoint_becomes_an_adapter(train: Train, make: Make, tiny_model: Path, tmp_path: Path) -> None:
    run = train("saves/training", max_steps=4, save_steps=2)
    made = make(action="extract", adapter_name_or_path="training")
    torch.testing.assert_close(
        logits(tiny_model, made.adapter), logits(tiny_model, run.run_dir / "checkpoints/checkpoint-4")
    )
    assert check_adapter(made.adapter).base == str(tiny_model)
    earlier = make(action="extract", adapter_name_or_path=str(run.run_dir / "checkpoints/checkpoint-2"))
    assert not torch.equal(logits(tiny_model, earlier.adapter), logits(tiny_model, made.adapter))
    assert "after step 2" in (earlier.run_dir / "report.md").read_text()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_converted_adapter_is_the_same_but_for_rounding(make: Make, base: Path, tmp_path: Path, dtype: str) -> None:
    adapter = adapt(tmp_path / "a", base)
    made = make(action="convert", adapter_name_or_path=str(adapter), export_dtype=dtype)
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (adapter, made.adapter))
    assert {weight.dtype for weight in after.values()} == {getattr(torch, dtype)}
    worst = max(float((before[key] - after[key].float()).norm() / before[key].norm()) for key in before)
    assert made.facts["rounding"] == pytest.approx(worst, rel=1e-4)
    assert worst < 2**-8


def test_a_type_that_cannot_hold_a_weight_is_refused(make: Make, base: Path, tmp_path: Path) -> None:
    adapter = adapt(tmp_path / "a", base)
    weights = load_file(adapter / "adapter_model.safetensors")
    key = next(key for key in weights if "lora_A" in key)
    save_file({**weights, key: weights[key] * 1e6}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"lora_A.weight has values that float16 cannot hold"):
        make(action="convert", adapter_name_or_path=str(adapter), export_dtype="float16")


SCALED: dict[str, dict[str, Any]] = {
    "plain": {},
    "patterns": {"rank_pattern": {"q_proj": 7}, "alpha_pattern": {"v_proj": 3}, "use_rslora": True},
    "bias": {"target_modules": ["o_proj"], "lora_bias": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.mark.parametrize(("case", "factor"), [*((case, 0.3) for case in SCALED), ("plain", -1.0)])
def test_a_scaled_adapter_is_peft_at_that_scale(
    make: Make, base: Path, tmp_path: Path, case: str, factor: float
) -> None:
    adapter = adapt(tmp_path / "a", base, **SCALED[case])
    made = make(action="scale", adapter_name_or_path=str(adapter), scale=factor)
    live = PeftModel.from_pretrained(load(base), adapter).eval()
    for module in (module for module in live.modules() if isinstance(module, LoraLayer)):
        module.scaling["default"] *= factor  # PEFT's own scale_layer leaves embeddings out
    with torch.no_grad():
        torch.testing.assert_close(logits(base, made.adapter), live(IDS).logits, atol=1e-5, rtol=1e-5)


UNSCALABLE: dict[str, dict[str, Any]] = {
    "DoRA": {"use_dora": True},
    "trained whole": {"modules_to_save": ["lm_head"]},
    "altered weights": {"init_lora_weights": "pissa"},
}


@pytest.mark.parametrize("reason", UNSCALABLE)
def test_what_does_not_grow_with_its_weights_is_refused(make: Make, base: Path, tmp_path: Path, reason: str) -> None:
    adapter = adapt(tmp_path / "a", base, **UNSCALABLE[reason])
    other = adapt(tmp_path / "b", base)
    with pytest.raises(ConfigError, match=reason):
        make(action="scale", adapter_name_or_path=str(adapter), scale=0.5)
    with pytest.raises(ConfigError, match=reason):
        make(action="average", adapter_name_or_path=f"{other},{adapter}")


PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "alike": ({}, {}),
    "ranks": ({"r": 2, "use_rslora": True}, {"r": 8, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 5}}),
    "other modules": ({"target_modules": ["q_proj", "embed_tokens"]}, {"target_modules": ["v_proj", "q_proj"]}),
    "other layers": ({"layers_to_transform": [1], "layers_pattern": "layers"}, {"target_modules": ["q_proj"]}),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_an_average_is_the_sum_of_the_changes(
    make: Make, base: Path, tmp_path: Path, pair: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    one, other = (adapt(tmp_path / str(seed), base, seed, **options) for seed, options in enumerate(pair))
    made = make(action="average", adapter_name_or_path=f"{one},{other}", adapter_weights="0.7,0.3")
    assert made.facts["error"] < 1e-6
    first, second, got = (deltas(base, adapter) for adapter in (one, other, made.adapter))
    for name in first:
        torch.testing.assert_close(got[name], 0.7 * first[name] + 0.3 * second[name], atol=1e-5, rtol=1e-5)


def test_an_average_is_cut_to_a_rank_with_the_least_error(make: Make, base: Path, tmp_path: Path) -> None:
    adapters = [adapt(tmp_path / str(seed), base, seed) for seed in range(3)]
    made = make(
        action="average", adapter_name_or_path=",".join(map(str, adapters)), combination_type="svd", lora_rank=5
    )
    wanted = [sum(each) / 3 for each in zip(*(deltas(base, one).values() for one in adapters), strict=True)]
    got = list(deltas(base, made.adapter).values())
    values = [torch.linalg.svdvals(change.double()) for change in wanted if change.ndim == 2 and change.any()]
    least = sum(float(each[5:].norm()) ** 2 for each in values) / sum(float(each.norm()) ** 2 for each in values)
    assert made.facts["error"] == pytest.approx(least**0.5, rel=1e-3)
    missing = sum(float((a - b).norm()) ** 2 for a, b in zip(wanted, got, strict=True))
    assert (missing / sum(float(each.norm()) ** 2 for each in wanted)) ** 0.5 == pytest.approx(least**0.5, rel=1e-3)


def test_an_average_across_bases_is_refused(make: Make, base: Path, tied: Path, tmp_path: Path) -> None:
    one, other = adapt(tmp_path / "a", base), adapt(tmp_path / "b", tied)
    with pytest.raises(ConfigError, match="an average needs one base"):
        make(action="average", adapter_name_or_path=f"{one},{other}")


def test_a_run_of_the_tools_in_its_own_process(start: Start, base: Path, tmp_path: Path) -> None:
    adapter = adapt(tmp_path / "名 前", base)
    run_dir = tmp_path / "saves" / "run"
    run_dir.mkdir(parents=True)
    save(parse(AdapterConfig, {"action": "scale", "adapter_name_or_path": [str(adapter)], "scale": 0.5}),
         run_dir / "config.yaml")  # fmt: skip
    worker = start("adapter", run_dir)
    assert worker.wait() == 0, worker.log
    assert worker.json("result.json")["output"] == "adapter"
    assert json.loads((run_dir / "adapter/base.json").read_text())["path"] == str(base)
    assert not (run_dir / "tmp").exists()
