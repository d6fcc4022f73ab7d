"""What is done around recorded passes, with passes that are played on the CPU by being made anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from studio.worker.fast import graphs, room
from studio.worker.fast.gradients import overwriting
from studio.worker.fast.graphs import Graphs
from studio.worker.stages import supervised
from tests.worker.conftest import Train
from tests.worker.fast.test_room import laid
from tests.worker.test_training import hand_over

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Again:
    """A recording that computes when it is played: it leaves gradients where one of a GPU does."""

    of: Here
    slopes: list[Tensor | None]
    is_first: bool

    def play(self, batch: dict[str, Any], counted: float) -> tuple[Tensor, ...]:
        self.of._leave(self.slopes)
        if self.is_first:
            with overwriting(self.of._weights):
                return self.of._learn(batch, torch.tensor(float(counted)))
        return self.of._learn(batch, torch.tensor(float(counted)))


class Here(Graphs):
    net: Net | None = None

    def forget(self) -> None:
        self._made.clear()

    def _free(self) -> int:
        return graphs.AMPLE

    def _record(self, batch: dict[str, Any], is_first: bool) -> Any:
        self._slopes = self._slopes or graphs._like(self._weights)
        if self.net and self.net.fails:
            self.net.fail()
        return Again(self, list(self._slopes), is_first)


class Net(nn.Module):
    """A weight that no pass asks for, and two that are learnt."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.idle = nn.Parameter(torch.randn(3))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 1)
        self.fails = False

    def learn(self, batch: dict[str, Any], counted: Tensor) -> tuple[Tensor, Tensor]:
        x = batch["targets"].clamp(min=0)[:, None].float().expand(-1, 4) / 9
        states = self.first(x).tanh()
        if self.fails:
            states.register_hook(self.fail)
        mask = batch["targets"] != -100
        loss = torch.where(mask, self.second(states)[:, 0].square(), 0).sum() / counted
        loss.backward()
        return loss.detach(), mask.sum()

    def fail(self, *_: Tensor) -> None:
        self.fails = False
        raise torch.OutOfMemoryError("caused by this test")

    def slopes(self) -> list[Tensor | None]:
        return [None if each.grad is None else each.grad.clone() for each in self.parameters()]


STEPS = [[laid([30]), laid([50, 9])], [laid([80]), laid([70])], [laid([9])]]


def learnt(net: Net, made: Graphs | None, fails: int | None = None) -> list[list[Tensor | None]]:
    """The gradients of each step; in the pass of the number `fails` memory runs out the first time."""
    found, number = [], 0
    for batches in STEPS:
        net.zero_grad()
        counted = sum(len(each["targets"]) for each in batches)
        for batch in batches:
            net.fails, number = number == fails, number + 1
            batch = room.fit(batch, made.room(batch)) if made and not made.is_off else batch
            if made is None or made.play(batch, counted) is None:
                net.fails = False
                net.learn(batch, torch.tensor(float(counted)))
        found.append(net.slopes())
    return found


@pytest.mark.parametrize("warm_up", range(6))
@pytest.mark.parametrize("fails", [None, *range(5)])
def test_each_step_has_the_gradients_of_its_passes(
    monkeypatch: pytest.MonkeyPatch, warm_up: int, fails: int | None
) -> None:
    """Wherever recording begins, and whatever fails; a weight without a gradient stays without one."""
    monkeypatch.setattr(graphs, "WARM_UP", warm_up)
    expected, net = learnt(Net(), None), Net()
    made = Here(net.learn, net.parameters(), CPU, 100)
    made.net = net
    for ours, theirs in zip(learnt(net, made, fails), expected, strict=True):
        assert [each is None for each in ours] == [each is None for each in theirs]
        torch.testing.assert_close(ours[1:], theirs[1:])


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (([[2.0], [5.01]], [3.0, 4.0, 0.0]), ""),
        (([[2.1], [5.0]], [3.0, 4.0, 0.0]), "figures were 5.0% off"),
        (([[2.0], [math.nan]], [3.0, 4.0, 0.0]), "figures were"),
        (([[2.0], [5.0]], [4.0, 3.0, 0.0]), "a weight's gradient was 33.3% off"),
        (([[2.0], [5.0]], [3.0, 4.0, math.nan]), "a weight's gradient was"),
        (([[2.0], [5.0]], [3.0, 4.0, 0.05]), ""),
        (([[2.0], [5.0]], [3.0, 4.0, 0.1]), "a weight's gradient was 34.6% off"),
    ],
)
def test_what_a_recording_tells_is_compared(ours: graphs.Figures, expected: str) -> None:
    told = graphs._difference(ours, ([[2.0], [5.0]], [3.0, 4.0, 0.0]))
    assert told.startswith(expected)
    assert bool(told) == bool(expected)


@pytest.mark.parametrize(("right", "entropy"), [(1.0, 320.0), (0.0, 321.0), (3.0, 320.0)])
def test_one_more_right_answer_of_few_is_no_difference(right: float, entropy: float) -> None:
    """Of the words of a fresh head many are as likely as the first."""
    assert not graphs._difference(([[2.0], [entropy, right, 100.0]], [1.0]), ([[2.0], [320.0, 2.0, 100.0]], [1.0]))


def test_sums_that_lack_rows_are_a_difference() -> None:
    told = graphs._difference(([[2.0], [300.0, 2.0, 94.0]], [1.0]), ([[2.0], [320.0, 2.0, 100.0]], [1.0]))
    assert told == "figures were 6.2% off"


def test_gradients_begin_where_kernels_can_read_several_at_once() -> None:
    weights = [nn.Parameter(torch.zeros(shape)) for shape in ((3,), (5, 7), (64,))]
    places = graphs._like(weights)
    assert [each.shape for each in places] == [each.shape for each in weights]
    assert {(each.data_ptr() - places[0].data_ptr()) % 128 for each in places} == {0}
    assert len({each.untyped_storage().data_ptr() for each in places}) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"finetuning_type": "full", "weight_decay": 0.1},
        {"finetuning_type": "freeze", "max_grad_norm": 0.01},
        {"use_adalora": True, "max_steps": 12},
        {"additional_target": "embed_tokens", "loraplus_lr_ratio": 4},
        {"optim": "muon", "finetuning_type": "full"},
        {"optim": "schedule_free_adamw", "lr_scheduler_type": "constant"},
        {"optim": "galore_adamw", "finetuning_type": "full"},
        {"gradient_checkpointing": "on"},
        {"packing": True, "cutoff_len": 90},
    ],
    ids=str,
)
def test_a_training_of_recorded_passes_is_the_plain_one(
    train: Train, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]
) -> None:
    """With validations, checkpoints and a last step of an epoch that has fewer rows in between."""
    given = {
        **{"max_steps": 9, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "learning_rate": 1e-3},
        **{"micro_batch_tokens": 150, "val_size": 3, "eval_steps": 4, "save_steps": 5, "flash_attn": "varlen", **keys},
    }
    plain = train("plain", **given)
    monkeypatch.setattr(graphs, "obstacle", lambda *_: "")
    monkeypatch.setattr(supervised, "Graphs", Here)
    run = train("recorded", **given)
    assert run.json("result.json")["paths"]["launching"] == graphs.WAY
    for kind, figures in (("step", ("loss", "grad_norm")), ("eval", ("eval_loss",))):
        ours, theirs = ([[event[each] for each in figures] for event in each.events(kind)] for each in (run, plain))
        assert len(ours) == len(theirs) > 1
        for one, other in zip(ours, theirs, strict=True):
            assert one == pytest.approx(other, rel=2e-3)


def test_a_training_of_recorded_passes_goes_on_as_it_was(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a resume a plain pass or two come first."""
    keys = {"max_steps": 8, "save_steps": 3, "save_total_limit": 9, "micro_batch_tokens": 150, "flash_attn": "varlen"}
    given = {**keys, "gradient_accumulation_steps": 3, "learning_rate": 1e-3, "finetuning_type": "full"}
    monkeypatch.setattr(graphs, "obstacle", lambda *_: "")
    monkeypatch.setattr(supervised, "Graphs", Here)
    whole = train("whole", **given)
    hand_over(whole, 3)
    resumed = train("resumed", resume_from_checkpoint="checkpoints/checkpoint-3", **given)
    for run in (whole, resumed):
        assert run.json("result.json")["paths"]["launching"] == graphs.WAY
    later = {step: loss for step, loss in whole.losses.items() if step > 3}
    assert resumed.losses == pytest.approx(later, rel=1e-3)
