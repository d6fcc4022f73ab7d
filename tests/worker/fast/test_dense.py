"""Trained layers with float32 gradients: autocast's numbers, and autocast itself where it must be."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from studio.worker.fast import clip, dense, stream
from studio.worker.fast.gradients import LARGE, learn, overwriting
from tests.worker.fast.test_lora import assert_same, base, config, rows


def fused(model: Any) -> Any:
    """A copy of `model` whose layers are ours."""
    model = deepcopy(model)
    groups, why = dense._groups(model, torch.bfloat16)
    assert not why
    copies = dense.join(groups)
    model.register_forward_pre_hook(copies.forget)
    return model


def both(**changes: Any) -> tuple[Any, Any]:
    model = base(**changes).train()
    return model, fused(model)


def go(model: Any, ids: torch.Tensor, dtype: torch.dtype | None = torch.bfloat16) -> torch.Tensor:
    """A pass there and back: its logits."""
    with torch.autocast(ids.device.type, dtype, enabled=dtype is not None):
        output = model(input_ids=ids, labels=ids, use_cache=False)
    output.loss.backward()
    return output.logits.detach().float()


def gradients(model: Any) -> list[torch.Tensor]:
    return [weight.grad.float() for weight in model.parameters()]


def passed(
    model: Any, dtype: torch.dtype | None = torch.bfloat16, ids: torch.Tensor | None = None
) -> list[torch.Tensor]:
    model.zero_grad()
    ids = rows() if ids is None else ids
    return [go(model, ids.to(model.device), dtype), *gradients(model)]


def off(found: list[torch.Tensor], truth: list[torch.Tensor]) -> float:
    """How far results are from `truth`, on average."""
    apart = [float((one - true).norm() / true.norm()) for one, true in zip(found, truth, strict=True)]
    return sum(apart) / len(apart)


def distances(ours: Any, plain: Any) -> tuple[float, float]:
    """How far the results of both are from the truth, over several batches: those of one wander by 2 % of it."""
    batches, exact = rows(24).split(2), deepcopy(plain)
    truths = [passed(exact, None, ids) for ids in batches]
    mine, theirs = (
        sum(off(passed(model, ids=ids), truth) for ids, truth in zip(batches, truths, strict=True)) / len(batches)
        for model in (ours, plain)
    )
    return mine, theirs


def count(model: Any) -> int:
    return sum(isinstance(each, dense.Dense) for each in model.modules())


def test_all_layers_but_the_head_are_ours() -> None:
    plain, ours = both()
    assert count(plain) == 0
    assert count(ours) == 2 * 7
    assert type(ours.lm_head) is nn.Linear


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True, "mlp_bias": True}], ids=["plain", "biases"])
def test_results_are_no_further_from_the_truth_than_autocasts(changes: dict[str, Any]) -> None:
    plain, ours = both(**changes)
    assert_same(passed(ours), passed(plain), 0.03)
    mine, theirs = distances(ours, plain)
    assert mine < 1.02 * theirs


def test_gradients_are_not_rounded() -> None:
    _, ours = both()
    passed(ours)
    slope = ours.model.layers[0].mlp.up_proj.weight.grad
    assert slope.dtype == torch.float32
    assert not torch.equal(slope.bfloat16().float(), slope)


def test_without_autocast_nothing_changes() -> None:
    plain, ours = both()
    assert_same(passed(ours, None), passed(plain, None), 0)


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_several_passes_add_up(to_none: bool) -> None:
    plain, ours = both()
    for model in (plain, ours):
        passed(model)
        model.zero_grad(set_to_none=to_none)
        for ids in rows(4).split(2):
            go(model, ids)
    assert_same(gradients(ours), gradients(plain), 0.03)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_computed_twice_give_the_same(reentrant: bool) -> None:
    _, ours = both()
    expected = passed(ours)
    ours.enable_input_require_grads()
    ours.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_same(passed(ours), expected, 1e-6)


def test_a_layer_that_is_called_twice_learns_from_both() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(16, 16)
    ours = deepcopy(plain)
    dense.join([[ours]])
    x = torch.randn(5, 16)
    for layer in (plain, ours):
        with torch.autocast("cpu", torch.bfloat16):
            layer(layer(x).relu()).float().square().sum().backward()
    assert_same([ours.weight.grad, ours.bias.grad], [plain.weight.grad, plain.bias.grad], 0.02)


def test_layers_that_read_the_same_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = both()
    product, counts = dense._product, []
    monkeypatch.setattr(dense, "_product", lambda *given: (counts.append(len(given[2])), product(*given))[1])
    passed(ours)
    assert counts == [3, 1, 2, 1] * 2


def test_a_group_of_which_one_is_frozen_by_now_is_computed_one_by_one() -> None:
    plain, ours = both()
    for model in (plain, ours):
        model.model.layers[0].self_attn.k_proj.weight.requires_grad = False
        model.zero_grad()
        go(model, rows())
    pairs = [(a.grad, b.grad) for a, b in zip(ours.parameters(), plain.parameters(), strict=True)]
    assert sum(a is None for a, _ in pairs) == 1
    assert_same([a for a, _ in pairs if a is not None], [b for _, b in pairs if b is not None], 0.03)


def test_outputs_that_nobody_learns_from_take_no_part() -> None:
    torch.manual_seed(0)
    plain = nn.ModuleList(nn.Linear(16, 8) for _ in range(3))
    ours = deepcopy(plain)
    dense.join([list(ours)])
    found = []
    for layers in (plain, ours):
        x = torch.ones(5, 16, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = [layer(x) for layer in layers]
        (outputs[0].float().sum() + outputs[2].float().square().sum()).backward()
        assert layers[1].weight.grad is None
        found.append([x.grad, *(each.grad for number in (0, 2) for each in layers[number].parameters())])
    assert_same(*found, 0.02)


def test_where_groups_do_not_do_layers_are_computed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_obstacle", lambda *_: "")
    difference = dense._difference
    is_many = lambda groups: any(len(each) > 1 for each in groups)  # noqa: E731
    monkeypatch.setattr(
        dense, "_difference", lambda groups, *rest: "no" if is_many(groups) else difference(groups, *rest)
    )
    plain = base().train()
    ours = deepcopy(plain)
    told = dense.fuse(ours, config(finetuning_type="full"), torch.bfloat16)
    assert str(told) == "trained layers: with float32 gradients (each by itself: no)"
    assert {len(each.siblings.layers) for each in ours.modules() if isinstance(each, dense.Dense)} == {1}
    assert_same(passed(ours), passed(plain), 0.03)


@pytest.mark.parametrize("large", [0, LARGE])
def test_what_a_gradient_holds_may_be_written_over(monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr("studio.worker.fast.gradients.LARGE", large)
    _, ours = both()
    expected = [each.clone() for each in passed(ours)[1:]]  # not the gradients themselves
    weights = list(ours.parameters())
    for weight in weights:
        weight.grad.fill_(7)
    places = [weight.grad.data_ptr() for weight in weights]
    with overwriting(weights):
        go(ours, rows())
    assert_same(gradients(ours), expected, 1e-6)
    go(ours, rows())
    assert_same(gradients(ours), [2 * each for each in expected], 1e-6)
    assert [weight.grad.data_ptr() for weight in weights] == places
    with overwriting(weights):
        pass
    assert not any(weight.grad.any() for weight in weights)
    with overwriting(weights):
        for ids in rows().split(1):
            go(ours, ids)
    once = [each.clone() for each in gradients(ours)]
    ours.zero_grad()
    for ids in rows().split(1):
        go(ours, ids)
    assert_same(once, gradients(ours), 1e-6)


def test_a_layer_without_autocast_learns_beside_others_that_are_written_over() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(16, 16, bias=False)
    dense.join([[ours]])
    x = torch.randn(5, 16)
    ours.weight.grad = torch.full_like(ours.weight, 7)
    with overwriting([ours.weight]):
        ours(x).square().sum().backward()
    expected = torch.autograd.grad((x @ ours.weight.T).square().sum(), ours.weight)
    assert_same([ours.weight.grad], expected, 1e-6)


def test_weights_that_a_step_changed_are_taken_up() -> None:
    plain, ours = both()
    models = (plain, ours)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True) for model in models]
    for _ in range(10):
        for model, optimizer in zip(models, optimizers, strict=True):
            passed(model)
            optimizer.step()
    assert_same([each.detach() for each in ours.parameters()], [each.detach() for each in plain.parameters()], 0.01)


def test_tied_and_watched_weights_are_left_alone() -> None:
    model = base(tie_word_embeddings=True)
    first = model.model.layers[0]
    first.mlp.up_proj.weight.register_hook(lambda slope: slope)
    first.mlp.gate_proj.weight.requires_grad = False
    assert len(dense._layers(model)) == 2 * 7 - 2


def test_on_a_cpu_all_stays() -> None:
    model = base()
    told = dense.fuse(model, config(finetuning_type="full"), torch.bfloat16)
    assert str(told) == "trained layers: by autocast (the other way is for a GPU)"
    assert count(model) == 0
    assert stream.narrow(model, torch.bfloat16).way == "float32"


def test_a_trial_finds_nothing_wrong_with_right_results(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, _ = dense._groups(base(attention_bias=True), torch.bfloat16)
    assert sorted(map(len, layers)) == [1, 1, 1, 1, 2, 2, 3, 3]
    assert dense._difference(layers, torch.bfloat16) == ""
    monkeypatch.setattr(
        "studio.worker.fast.gradients.learn", lambda weight, slopes, rows: learn(weight, 1.1 * slopes, rows)
    )
    assert "% off" in dense._difference(layers, torch.bfloat16)


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_gradients_are_clipped_in_the_step(limit: float) -> None:
    torch.manual_seed(0)
    plain = [nn.Parameter(torch.randn(33, 7)), nn.Parameter(torch.randn(5))]
    ours = deepcopy(plain)
    optimizers = [torch.optim.AdamW(each, lr=1e-2, fused=True) for each in (plain, ours)]
    assert clip.prepare(optimizers[1], ours)
    for _ in range(20):
        for one, other in zip(plain, ours, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        length = torch.nn.utils.clip_grad_norm_(plain, limit)
        assert clip.leave(optimizers[1], torch.nn.utils.get_total_norm([each.grad for each in ours]), limit) == length
        for optimizer in optimizers:
            optimizer.step()
        assert optimizers[1].grad_scale is None
    assert_same([each.detach() for each in ours], [each.detach() for each in plain], 1e-6)


def test_other_optimizers_clip_as_ever() -> None:
    weights = [nn.Parameter(torch.randn(3))]
    assert not clip.prepare(torch.optim.AdamW(weights), weights)
    assert not clip.prepare(torch.optim.SGD(weights), weights)
    assert not clip.prepare(torch.optim.AdamW(weights, fused=True), [*weights, nn.Parameter(torch.randn(2))])
