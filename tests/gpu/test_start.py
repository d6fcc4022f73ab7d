"""How weights come onto a CUDA device: from their files, never through a copy in the memory of the machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from studio import models
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.worker import methods, sharding
from studio.worker.ranks import Rank
from studio.worker.sharding import Sharding
from tests.worker.conftest import Train, make_model

pytestmark = pytest.mark.gpu
POLL_S = 0.005
WIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}  # 1.5 GB in float32


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_are_on_the_device_once_they_are_loaded(
    train: Train, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    found: set[str] = set()
    place = Sharding.place

    def watch(self: Sharding, model: PreTrainedModel) -> PreTrainedModel:
        found.update(each.device.type for each in (*model.parameters(), *model.buffers()))
        assert not hasattr(model, "_hf_hook")  # a hook of Accelerate's would be called at every step
        return place(self, model)

    monkeypatch.setattr(Sharding, "place", watch)
    run = train(finetuning_type=method, max_steps=2, save_steps=0)
    assert found == {"cuda"}
    assert len(run.losses) == 2


def test_wide_weights_of_a_short_file_do_not_pass_through_memory(tmp_path: Path, tokenizer_dir: Path) -> None:
    folder = make_model(tmp_path / "wide", tokenizer_dir, **WIDE)
    keys: dict[str, Any] = {"model_name_or_path": str(folder), "dataset": ["demo"], "finetuning_type": "full"}
    config, tokenizer = parse(TrainConfig, keys), AutoTokenizer.from_pretrained(folder)
    torch.zeros(1, device="cuda")  # what CUDA itself takes is not counted
    with Memory() as memory:
        model = methods.load(
            config, models.check(folder), tokenizer, "causal", sharding.of(config, Rank(), tmp_path / "run")
        )
    weights_bytes = sum(weight.nbytes for weight in model.parameters())
    assert next(model.parameters()).dtype is torch.float32
    assert memory.peak_bytes < 0.4 * weights_bytes


class Memory:
    """The most that this process takes in here of its own, files aside, beyond what it had."""

    def __enter__(self) -> Memory:
        self.before_bytes = self.peak_bytes = own_bytes()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self.peak_bytes -= self.before_bytes

    def _watch(self) -> None:
        while not self._ends.wait(POLL_S):
            self.peak_bytes = max(self.peak_bytes, own_bytes())


def own_bytes() -> int:
    """Anonymous memory of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024
