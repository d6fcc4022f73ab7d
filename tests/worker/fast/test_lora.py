"""Adapters computed with the layers below them: PEFT's numbers with less kept, and PEFT itself where it must be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker.fast import lora
from tests.worker.conftest import Finished, Train
from tests.worker.methods.test_quantised import load
from tests.worker.stages.conftest import StageTrain, other_model, sets_dir, stage

__all__ = ["other_model", "sets_dir", "stage"]

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES: dict[str, dict[str, Any]] = {
    "rank 1": {"r": 1},
    "rank 64, by its root": {"r": 64, "use_rslora": True},
    "from the strongest directions": {"r": 4, "init_lora_weights": "pissa"},
    "of several ranks": {"r": 8, "rank_pattern": {"q_proj": 3, "up_proj": 16}, "alpha_pattern": {"v_proj": 5}},
    "of few layers": {"target_modules": ["v_proj", "q_proj", "down_proj"]},
}


def config(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": ["demo"], "bf16": False, **keys})


def base(dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model with weights large enough to tell ways of computing apart."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1}
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **heads, **changes})).to(dtype)


def adapted(model: Any, adapter: LoraConfig | None = None, **keys: Any) -> Any:
    """`model` with an adapter that adds something."""
    keys = {"target_modules": ALL, "lora_alpha": 12, "task_type": "CAUSAL_LM", **keys}
    torch.manual_seed(1)
    tuned = get_peft_model(model, adapter or LoraConfig(**keys))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name and "pissa" not in str(keys.get("init_lora_weights")):
                weight.normal_(std=0.05)
    return tuned.train()


def both(model: Any, **keys: Any) -> tuple[Any, Any]:
    """A model, and a copy whose adapters are computed with their layers."""
    fused = deepcopy(model)
    assert str(lora.fuse(fused, config(**keys))) == "adapters: together with their layers"
    return model, fused


def rows(count: int = 2) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(0, 96, (count, 24))


def passed(model: Any, ids: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Logits of a pass, and the gradients that it leaves, in float32."""
    ids = rows().to(model.device) if ids is None else ids
    model.zero_grad()
    output = model(input_ids=ids, labels=ids, use_cache=False)
    output.loss.backward()
    return [output.logits.detach().float(), *(weight.grad.float() for weight in trained(model))]


def trained(model: Any) -> list[Any]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def layer(model: Any, name: str = "q_proj") -> Any:
    inner = model.get_base_model().model.layers[0]
    return getattr(inner.self_attn if name[0] in "qkvo" else inner.mlp, name)


def is_fused(model: Any, name: str = "q_proj") -> bool:
    """Whether one layer computes its adapter itself, as autograd tells."""
    module = layer(model, name)
    weight = module.lora_A["default"].weight
    x = torch.randn(3, module.in_features, device=weight.device, dtype=computed_in(model), requires_grad=True)
    return "Product" in str(module(x).grad_fn)


def computed_in(model: Any) -> torch.dtype:
    kind = model.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor], within: float = 1e-5) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert float((mine - other).norm()) <= within * float(other.norm())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_peft(shape: str) -> None:
    plain, fused = both(adapted(base(), **SHAPES[shape]))
    assert is_fused(fused)
    assert not is_fused(plain)
    assert_same(passed(fused), passed(plain))


def test_layers_may_have_biases() -> None:
    model = base(attention_bias=True, mlp_bias=True)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    plain, fused = both(adapted(model))
    assert is_fused(fused)
    assert_same(passed(fused), passed(plain))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_computed_twice_give_the_same(reentrant: bool) -> None:
    plain, fused = both(adapted(base()))
    expected = passed(plain)
    fused.enable_input_require_grads()
    fused.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_same(passed(fused), expected)
    assert_same(passed(fused), expected)


def test_ten_steps_lead_to_the_same_weights() -> None:
    models = both(adapted(base()))
    # this optimizer does not count up the version of what it changes
    optimizers = [torch.optim.AdamW(trained(model), lr=1e-3, fused=True) for model in models]
    for step in range(10):
        for model, optimizer in zip(models, optimizers, strict=True):
            model.zero_grad()
            for number in range(2):  # gradients of several passes add up
                ids = rows(4)[2 * number : 2 * number + 1 + step % 2]
                model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    plain, fused = ([weight.detach() for weight in trained(model)] for model in models)
    assert_same(fused, plain, 1e-4)


def test_two_passes_before_the_way_back_keep_what_each_was_computed_with() -> None:
    plain, fused = both(adapted(base()))
    found = []
    for model in (plain, fused):
        model.zero_grad()
        losses = [model(input_ids=ids, labels=ids).loss for ids in rows(4).split(1)]
        (losses[0] - losses[1] * losses[2]).backward()
        losses[3].backward()
        found.append([weight.grad for weight in trained(model)])
    assert_same(found[1], found[0])


def changed_by_step(model: Any) -> None:
    weights = trained(model)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(weights, lr=0.01, fused=True).step()


def changed_in_data(model: Any) -> None:
    for weight in trained(model):
        weight.data.mul_(1.5)


def changed_by_loading(model: Any) -> None:
    weights = {name: weight * 1.5 for name, weight in model.state_dict().items() if "lora_" in name}
    model.load_state_dict(weights, strict=False, assign=True)


@pytest.mark.parametrize("change", [changed_by_step, changed_in_data, changed_by_loading])
def test_weights_that_were_changed_are_taken_up(change: Callable[[Any], None]) -> None:
    plain, fused = both(adapted(base()))
    before = passed(fused)
    for model in (plain, fused):
        change(model)
    assert_same(passed(fused), passed(plain))
    assert float((passed(fused)[0] - before[0]).norm()) > 0.1


def test_an_edit_is_taken_up_by_a_layer_that_is_called_by_itself() -> None:
    plain, fused = both(adapted(base()))
    x = torch.randn(3, 64)
    layer(fused)(x)
    for model in (plain, fused):
        with torch.no_grad():
            layer(model).lora_B["default"].weight.mul_(2)
    torch.testing.assert_close(layer(fused)(x), layer(plain)(x), atol=1e-5, rtol=0)


def distance(found: list[torch.Tensor], truth: list[torch.Tensor]) -> list[float]:
    """How far the logits are off, and on average the gradients."""
    apart = [float((mine - true).norm() / true.norm()) for mine, true in zip(found, truth, strict=True)]
    return [apart[0], sum(apart[1:]) / len(apart[1:])]


def off_in_bfloat16(model: Any, wide: Any, **keys: Any) -> list[list[float]]:
    """How far ours and PEFT's results are from those of `wide`, the same model in float32."""
    plain, fused = both(model, **keys, bf16=True)
    truth = passed(wide)
    assert is_fused_within(fused, torch.bfloat16)
    found = []
    for each in (fused, plain):
        with torch.autocast(model.device.type, torch.bfloat16):
            found.append(distance(passed(each), truth))
    return found


def is_fused_within(model: Any, dtype: torch.dtype) -> bool:
    with torch.autocast(model.device.type, dtype):
        return is_fused(model)


@pytest.mark.parametrize("rank", [2, 16])
def test_in_bfloat16_results_are_as_near_to_the_truth_as_those_of_peft(rank: int) -> None:
    model = adapted(base(torch.bfloat16), r=rank)
    ours, theirs = off_in_bfloat16(model, deepcopy(model).float())
    assert all(mine < 1.05 * other for mine, other in zip(ours, theirs, strict=True))


def test_gradients_are_held_as_the_weights_are() -> None:
    _, fused = both(adapted(base(torch.bfloat16)), bf16=True)
    with torch.autocast("cpu", torch.bfloat16):
        passed(fused)
    assert {weight.grad.dtype for weight in trained(fused)} == {torch.float32}


@pytest.mark.parametrize("twice", [False, True])
def test_layers_of_4_bits_are_computed_with_their_adapters(tiny_model: Path, twice: bool) -> None:
    keys = {"quantization_bit": 4, "double_quantization": twice, "bf16": False}
    plain, fused = both(adapted(load(tiny_model, **keys)), **keys)
    assert is_fused(fused)
    assert_same(passed(fused), passed(plain))
    fused.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same(passed(fused), passed(plain))
    with torch.no_grad():
        assert_same([fused(rows()).logits], [plain(rows()).logits])


@contextmanager
def merged(model: Any) -> Iterator[None]:
    model.merge_adapter()
    yield
    model.unmerge_adapter()


@contextmanager
def active(model: Any, *names: str) -> Iterator[None]:
    torch.manual_seed(3)
    model.add_adapter("other", LoraConfig(target_modules=ALL, init_lora_weights=False))
    model.base_model.set_adapter([*names])
    yield
    model.base_model.set_adapter("default")


@contextmanager
def watched(model: Any) -> Iterator[None]:
    calls: list[Any] = []
    with torch.no_grad(), layer(model).lora_A["default"].register_forward_hook(lambda *told: calls.append(told)):
        yield
    assert calls


@contextmanager
def freed(model: Any) -> Iterator[None]:
    for name in ALL:
        layer(model, name).base_layer.weight.requires_grad_()
    yield


CASES: dict[str, Callable[[Any], Any]] = {
    "switched off": lambda model: model.disable_adapter(),
    "merged": merged,
    "another": lambda model: active(model, "other"),
    "several": lambda model: active(model, "default", "other"),
    "watched": watched,
    "on weights that are trained": freed,
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_not_the_plain_case_is_left_to_peft(case: str) -> None:
    plain, fused = both(adapted(base()))
    logits = []
    for model in (plain, fused):
        with CASES[case](model):
            assert case == "watched" or not is_fused(model)
            logits.append(model(rows()).logits)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
    if case != "on weights that are trained":
        assert is_fused(fused)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"use_dora": True}, "of the kind DoraLinearVariant"),
        ({"lora_dropout": 0.1}, "lora_dropout"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "they have a bias"),
        ({"target_modules": ["embed_tokens"]}, "there are none"),
    ],
    ids=["DoRA", "dropout", "bias", "embeddings"],
)
def test_adapters_that_compute_something_else_stay_with_peft(keys: dict[str, Any], why: str) -> None:
    model = adapted(base(attention_bias=True), **keys)
    assert why in str(lora.fuse(model, config()))
    with pytest.raises(ModelError, match=f"fused_lora: .*{why}.*Leave it empty"):
        lora.fuse(model, config().model_copy(update={"fused_lora": True}))
    passed(model)


def test_other_methods_and_ways_of_spreading_stay_with_peft(tiny_model: Path) -> None:
    model = adapted(base(), AdaLoraConfig(target_modules=ALL, total_step=10))
    assert "layers of the kind SVDLinear" in str(lora.fuse(model, config()))
    eight = adapted(load(tiny_model, quantization_bit=8, bf16=False))
    assert "layers of the kind Linear8bitLt" in str(lora.fuse(eight, config()))
    assert "there are none" in str(lora.fuse(base(), config()))
    assert "zero2" in str(lora.fuse(adapted(base()), config().model_copy(update={"parallel_strategy": "zero2"})))
    switched_off = adapted(base())
    assert str(lora.fuse(switched_off, config(fused_lora=False))) == "adapters: by PEFT (fused_lora: false)"
    assert not is_fused(switched_off)


def test_modules_trained_whole_and_layers_of_other_kinds_stay_beside_fused_ones() -> None:
    model = adapted(base(), target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"])
    plain, fused = both(model)
    assert is_fused(fused)
    assert_same(passed(fused), passed(plain))


def test_results_that_differ_from_those_of_peft_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.worker.fast.product import Part

    model = adapted(base())
    monkeypatch.setattr(Part, "unpacked", lambda self: 1.01 * self.weight)
    assert re.search(r"results were \d\.\d% off", str(lora.fuse(model, config())))
    assert not is_fused(model)
    monkeypatch.setattr(Part, "unpacked", lambda self: self.weight[1:])
    assert "it was tried and failed: " in str(lora.fuse(model, config()))


def test_no_room_for_a_trial_leaves_adapters_to_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory\nand much more")

    model = adapted(base())
    monkeypatch.setattr(lora.copy, "deepcopy", refuse)
    assert str(lora.fuse(model, config())).endswith("it was tried and failed: CUDA out of memory)")
    assert not is_fused(model)


def test_layers_that_read_the_same_input_are_computed_together() -> None:
    _, fused = both(adapted(base()))
    groups = {tuple(name for name in ALL if layer(fused, name) in layer(fused, one).siblings.layers) for one in ALL}
    assert groups == {("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("o_proj",), ("down_proj",)}


def test_what_waits_for_a_layer_is_given_once_and_for_that_input_alone() -> None:
    plain, fused = both(adapted(base()))
    x, other = torch.randn(3, 64), torch.randn(3, 64)

    def same(name: str, x: torch.Tensor) -> torch.Tensor:
        found = layer(fused, name)(x)
        torch.testing.assert_close(found, layer(plain, name)(x), atol=1e-5, rtol=0)
        return found

    first = same("q_proj", x).grad_fn
    assert same("k_proj", x).grad_fn is first
    assert same("k_proj", x).grad_fn is not first  # it was given already
    assert same("v_proj", other).grad_fn is not first
    assert same("v_proj", x).grad_fn is not first
    same("q_proj", x)
    x.mul_(2)
    same("k_proj", x)
    same("q_proj", x)
    with torch.no_grad():
        assert not same("v_proj", x).requires_grad
    assert layer(fused).siblings._waiting is None


def test_layers_whose_output_nobody_uses_get_no_gradient() -> None:
    plain, fused = both(adapted(base()))
    x = torch.randn(3, 64, requires_grad=True)
    slopes = []
    for model in (plain, fused):
        outputs = [layer(model, name)(x=x) if name == "k_proj" else layer(model, name)(x) for name in ALL[:3]]
        (outputs[0].sum() + outputs[1].square().sum()).backward()
        slopes.append([weight.grad for weight in trained(model)])
        slopes[-1].append(x.grad)
        x.grad = None
    assert [each is None for each in slopes[1]] == [each is None for each in slopes[0]]
    assert_same(*([each for each in found if each is not None] for found in reversed(slopes)))


def test_a_pass_that_breaks_off_leaves_nothing_wrong_behind() -> None:
    plain, fused = both(adapted(base()))
    expected = passed(plain)

    def fail(*_: Any) -> None:
        raise KeyError

    hook = layer(fused, "k_proj").register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        passed(fused)
    hook.remove()
    assert_same(passed(fused), expected)


def test_views_and_single_tokens_are_taken() -> None:
    plain, fused = both(adapted(base()))
    for x in (torch.randn(64, 5).T, torch.randn(64), torch.randn(2, 3, 128)[..., ::2]):
        torch.testing.assert_close(layer(fused)(x), layer(plain)(x), atol=1e-5, rtol=0)
    assert layer(fused)(torch.empty(0, 64)).shape == (0, 64)
    layer(fused)(torch.randn(2, 64)).mul_(2).sum().backward()  # others may alter the output


def test_saving_loading_and_merging_know_nothing_of_it(tmp_path: Path) -> None:
    plain, fused = both(adapted(base()))
    passed(fused)
    assert list(fused.state_dict()) == list(plain.state_dict())
    assert repr(fused) == repr(plain)
    for model, name in ((plain, "plain"), (fused, "fused")):
        model.save_pretrained(tmp_path / name)
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("plain", "fused")]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(weight, files[1][name]) for name, weight in files[0].items())
    loaded = PeftModel.from_pretrained(base(), str(tmp_path / "fused"))
    torch.testing.assert_close(fused(rows()).logits, loaded(rows()).logits, atol=1e-5, rtol=0)
    whole = [model.merge_and_unload() for model in (plain, fused)]
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), whole[1].parameters(), strict=True))
    assert {type(module) for module in whole[1].modules()} == {type(module) for module in base().modules()}


def test_a_copy_of_the_model_is_a_model_of_its_own() -> None:
    _, fused = both(adapted(base()))
    before = passed(fused)
    twin = deepcopy(fused)
    changed_in_data(twin)
    assert is_fused(twin)
    assert_same(passed(fused), before, 0)
    assert float((passed(twin)[0] - before[0]).norm()) > 0.1


def kept_bytes(model: Any, names: list[str], x: torch.Tensor) -> int:
    """Bytes that layers called with `x` keep for the way back, beside weights and `x` itself."""
    known = {each.untyped_storage().data_ptr() for each in (x, *model.parameters())}
    known |= {each.base_layer.weight.untyped_storage().data_ptr() for each in (layer(model, name) for name in names)}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = [layer(model, name)(x) for name in names]
    del outputs
    return sum(size for place, size in kept.items() if place not in known)


def test_kept_for_the_way_back_is_the_input_once_and_a_few_numbers_a_token() -> None:
    """What the plan of a training's memory counts on."""
    plain, fused = both(adapted(base(torch.bfloat16), r=8), bf16=True)
    x = torch.randn(100, 64, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert kept_bytes(fused, ["q_proj", "k_proj", "v_proj"], x) == 100 * 3 * 8 * 2
        assert kept_bytes(plain, ["q_proj", "k_proj", "v_proj"], x) > 3 * 100 * 64 * 2


def test_a_model_held_to_itself_without_the_adapter_takes_the_same_course(stage: StageTrain) -> None:
    keys = {"max_steps": 4, "learning_rate": 5e-3, "bf16": True}
    plain, fused = (stage("dpo", "pairs", f"fused-{fused}", fused_lora=fused, **keys) for fused in (False, True))
    assert curve(fused)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert curve(fused) == pytest.approx(curve(plain), abs=0.01)
    assert curve(fused)[-1] < curve(fused)[0] - 0.05


def curve(run: Finished) -> list[float]:
    return [each["loss"] for each in run.events("step")]


@pytest.mark.parametrize(
    "keys",
    [
        {"lora_target": ["all"], "gradient_checkpointing": "on"},
        {"quantization_bit": 4, "optim": "adamw_8bit", "packing": True, "cutoff_len": 64},
    ],
    ids=["LoRA", "QLoRA"],
)
def test_a_training_takes_the_same_course(train: Train, keys: dict[str, Any]) -> None:
    plain, fused = (train(f"fused-{fused}", fused_lora=fused, **keys) for fused in (False, True))
    assert curve(fused) == pytest.approx(curve(plain), abs=1e-5)
    assert curve(fused)[-1] < curve(fused)[0]
    assert "together with their layers" in fused.json("result.json")["paths"]["adapters"]
    assert "by PEFT" in plain.json("result.json")["paths"]["adapters"]
