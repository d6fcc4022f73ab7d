"""Nothing in a step waits for the device: the host queues the next one while it computes."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from studio.worker.progress import Progress
from tests.worker.conftest import Train

pytestmark = pytest.mark.gpu
WATCHED = range(4, 10)  # steps; before, kernels are compiled and tried
OURS = ("/studio/", "/transformers/", "/trl/", "/peft/", "/accelerate/", "/liger_kernel/")


def place() -> str:
    """Where in the code that is called by a step the program is, outermost first."""
    frames = [frame for frame in traceback.extract_stack() if any(part in frame.filename for part in OURS)]
    return "\n".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-4:])


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often something waited for the device within the watched steps, by place."""
    found: Counter[str] = Counter()
    begin = Progress.on_step_begin

    def watched(self: Progress, args: Any, state: Any, control: Any, **keys: Any) -> None:
        torch.cuda.set_sync_debug_mode("warn" if state.global_step in WATCHED else "default")
        begin(self, args, state, control, **keys)

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchronizing" in str(message):
            found[place()] += 1

    monkeypatch.setattr(Progress, "on_step_begin", watched)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", note)
        yield found
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"finetuning_type": "full"},
        {"micro_batch_tokens": 120},
        {"gradient_checkpointing": "on"},
        {"use_dft_loss": True, "packing": True, "cutoff_len": 90},
    ],
    ids=["adapter", "full", "several passes", "recomputed", "packed"],
)
def test_a_step_does_not_wait_for_the_device(train: Train, waits: Counter[str], keys: dict[str, Any]) -> None:
    run = train(max_steps=12, save_steps=0, per_device_train_batch_size=2, gradient_accumulation_steps=4, **keys)
    assert len(run.losses) == 12
    assert not waits, "\n\n".join(f"{count} times:\n{where}" for where, count in waits.items())


def test_what_waits_is_noticed(train: Train, waits: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    end = Progress.on_step_end

    def reading(self: Progress, *rest: Any, **keys: Any) -> None:
        torch.ones(1, device="cuda").item()
        end(self, *rest, **keys)

    monkeypatch.setattr(Progress, "on_step_end", reading)
    train(max_steps=12, save_steps=0)
    assert sum(waits.values()) == len(WATCHED)
