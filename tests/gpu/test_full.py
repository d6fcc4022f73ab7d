"""Trained layers with float32 gradients on a CUDA device: autocast's numbers, and no more memory than is planned."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from studio.worker.fast import adamw, clip, dense, liger, stream
from studio.worker.fast.copies import Copies
from studio.worker.fast.gradients import _adds, overwriting
from tests.worker.conftest import Train
from tests.worker.fast.test_copies import loading
from tests.worker.fast.test_dense import distances, fused, go, gradients, passed
from tests.worker.fast.test_lora import assert_same, base, config, curve, rows

pytestmark = pytest.mark.gpu
FULL = {"finetuning_type": "full", "bf16": True}


def models(**changes: Any) -> tuple[Any, Any]:
    model = base(**changes).to("cuda").train()
    ours = deepcopy(model)
    assert str(dense.fuse(ours, config(**FULL), torch.bfloat16)) == "trained layers: with float32 gradients"
    return model, ours


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}], ids=["plain", "biases"])
def test_results_are_no_further_from_the_truth_than_autocasts(changes: dict[str, Any]) -> None:
    plain, ours = models(**changes)
    assert_same(passed(ours), passed(plain), 0.03)
    mine, theirs = distances(ours, plain)
    assert mine < 1.02 * theirs


def test_gradients_of_several_passes_add_up_as_they_are_made() -> None:
    plain, ours = models()
    assert _adds(torch.device("cuda", 0))
    for model in (plain, ours):
        model.zero_grad()
        for ids in rows(4).cuda().split(1):
            go(model, ids)
    assert_same(gradients(ours), gradients(plain), 0.03)


def test_a_recorded_pass_writes_over_gradients() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64)).cuda()
    ours.register_forward_pre_hook(dense.join([[each] for each in ours]).forget)
    x, weights = torch.randn(32, 64, device="cuda"), list(ours.parameters())

    def learn() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            y = ours(x)
        y.float().square().sum().backward()

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        learn()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside), overwriting(weights):
        learn()
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.01)
    for _ in range(2):
        graph.replay()
    found = [weight.grad.clone() for weight in weights]
    ours.zero_grad()
    learn()
    assert_same(found, [weight.grad for weight in weights], 1e-4)


def test_states_between_layers_are_narrow() -> None:
    pytest.importorskip("liger_kernel")
    plain, ours = models()
    truth = passed(deepcopy(plain), None)
    assert liger.apply(ours, config(**FULL), torch.bfloat16).way == "liger"
    assert stream.narrow(ours, torch.bfloat16).way == "bfloat16"
    found: list[torch.dtype] = []
    for layer in (*ours.model.layers, ours.model.norm):
        layer.register_forward_hook(lambda _, __, y: found.append((y[0] if isinstance(y, tuple) else y).dtype))
    mine = passed(ours)
    assert set(found) == {torch.bfloat16}
    assert_same(mine, truth, 0.1)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, adamw.AdamW], ids=["torch", "ours"])
def test_a_step_that_clips_is_the_plain_one(kind: type[torch.optim.AdamW]) -> None:
    torch.manual_seed(0)
    shapes = ((513, 257), (64,), (1,), (1024, 33))
    plain = [torch.nn.Parameter(torch.randn(shape, device="cuda")) for shape in shapes]
    ours = deepcopy(plain)
    theirs, mine = (made(each, weights) for each, weights in ((torch.optim.AdamW, plain), (kind, ours)))
    assert clip.prepare(mine, ours)
    for number in range(20):
        for one, other in zip(plain, ours, strict=True):
            one.grad = torch.randn_like(one) * (1 + number)
            other.grad = one.grad.clone()
        assert clip.leave(
            mine, torch.nn.utils.get_total_norm([each.grad for each in ours]), 0.5
        ) == torch.nn.utils.clip_grad_norm_(plain, 0.5)
        theirs.step()
        mine.step()
        if number == 10:  # each goes on from what the other has kept
            saved = deepcopy([mine.state_dict(), theirs.state_dict()])
            theirs.load_state_dict(saved[0])
            mine.load_state_dict(saved[1])
    assert_same([each.detach() for each in ours], [each.detach() for each in plain], 1e-6)


def made(kind: type[torch.optim.AdamW], weights: list[Any]) -> torch.optim.AdamW:
    groups = [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.0, "lr": 2e-3}]
    return kind(groups, lr=1e-3, weight_decay=0.1, fused=True)


def test_all_weights_are_stepped_in_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [torch.nn.Parameter(torch.randn(100, device="cuda")) for _ in range(300)]
    kind, path = adamw.pick(weights)
    assert (kind, str(path)) == (adamw.AdamW, "optimizer: AdamW in one launch")
    launch, launched = adamw._launch, []
    monkeypatch.setattr(adamw, "_launch", lambda *told: (launched.append(told), launch(*told)))
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    made(kind, weights).step()
    assert len(launched) == 1


def test_copies_are_written_with_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit as they would be made; no chunk of the kernel divides the sizes."""
    _, ours = models(hidden_size=72, intermediate_size=152)
    copies = dense.copies_in(ours)
    assert copies
    weights = list(ours.parameters())
    optimizer = adamw.AdamW(weights, lr=1e-2, fused=True)
    adamw.keep(optimizer, copies)
    passed(ours)
    make, made, launch, launched = Copies._make, [], adamw._launch, []
    monkeypatch.setattr(Copies, "_make", lambda self, dtype: (made.append(dtype), make(self, dtype)))
    monkeypatch.setattr(adamw, "_launch", lambda *told: (launched.append(told), launch(*told)))
    for _ in range(3):
        optimizer.step()
        passed(ours)
        for place, layer in zip(copies._places, copies._layers, strict=True):
            assert torch.equal(place, layer.weight.detach().bfloat16())
    assert (len(launched), made) == (3, [])
    ours.load_state_dict({name: each * 1.5 for name, each in ours.state_dict().items()})
    passed(ours)
    assert made == [torch.bfloat16]


@pytest.mark.parametrize("steps", ["ours", "torch's"])
def test_recorded_passes_compute_with_what_weights_are(
    train: Train, monkeypatch: pytest.MonkeyPatch, steps: str
) -> None:
    """A recording copies nothing: weights that are loaded, or stepped by torch, are copied before it is played."""
    if steps == "torch's":
        monkeypatch.setattr(adamw.AdamW, "_rows", lambda _: [])
        monkeypatch.setattr(adamw, "_difference", lambda *_: "")
    keys = {**FULL, "max_steps": 16, "learning_rate": 1e-3, "val_size": 4, "eval_steps": 4, "save_steps": 4}
    keys |= {"load_best_model_at_end": True}
    with monkeypatch.context() as patch:
        loading(patch)
        patch.setattr(adamw, "keep", lambda *_: None)
        plain = train("plain", cuda_graphs=False, **keys)
    make, made = Copies._make, []
    monkeypatch.setattr(Copies, "_make", lambda self, dtype: (made.append(self), make(self, dtype)))
    loading(monkeypatch)
    recorded = train("recorded", **keys)
    assert recorded.json("result.json")["paths"]["launching"] == "CUDA graphs"
    assert recorded.json("result.json")["paths"]["optimizer"] == "AdamW in one launch"
    assert curve(recorded) == pytest.approx(curve(plain), rel=0.02)
    kept = [each for each in made if each.is_kept and isinstance(each._layers[0], dense.Dense)]
    if steps == "ours":
        assert len(kept) == 2  # in the first pass, and once weights were loaded


def test_a_training_takes_the_same_course(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = train("ours", learning_rate=1e-3, **FULL)
    monkeypatch.setattr(dense, "_obstacle", lambda *_: "a comparison")
    monkeypatch.setattr(stream, "narrow", lambda *_: stream.Path(stream.PART, "float32"))
    monkeypatch.setattr(clip, "prepare", lambda *_: False)
    monkeypatch.setattr(adamw, "_obstacle", lambda _: "a comparison")
    plain = train("plain", learning_rate=1e-3, **FULL)
    assert ours.json("result.json")["paths"]["trained layers"] == "with float32 gradients"
    assert curve(ours) == pytest.approx(curve(plain), rel=0.02)
    assert curve(ours)[-1] < curve(ours)[0]


def peak(model: Any, ids: torch.Tensor) -> int:
    """Bytes at the fullest moment of a step beside weights and gradients."""
    go(model, ids)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    model.zero_grad()
    go(model, ids)
    return torch.cuda.max_memory_allocated()


def test_it_takes_no_more_memory_than_its_copies() -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "max_position_embeddings": 4096}
    ids = torch.randint(0, 96, (1, 4096), device="cuda")
    model = base(**sizes).to("cuda").train()
    before = peak(model, ids)
    copies = sum(2 * each.weight.numel() for each in dense._layers(model))
    model.zero_grad()
    assert peak(fused(model), ids) - sum(4 * each.numel() for each in model.parameters()) <= before + copies
