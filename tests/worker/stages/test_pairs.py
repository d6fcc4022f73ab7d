"""Every stage with every method that can be had in it, twenty steps each: what is learned really gets better."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.config.train.pairs import METHODS, STAGES, refusals
from studio.errors import ConfigError
from tests.worker.conftest import Finished, make_model, train_here, write_config

PAIRS = [(stage, method) for stage in STAGES for method in METHODS]
LEGAL = [pair for pair in PAIRS if not refusals(*pair)]
ILLEGAL = [pair for pair in PAIRS if refusals(*pair)]
STEPS = 20
EDGE = 4  # steps of the beginning and of the end that are compared
DATA = {"pt": "texts", "sft": "talks", "grpo": "talks", "rloo": "talks", "kto": "judged"}
RATES = {"full": 5e-4, "freeze": 2e-3, "adalora": 1.5e-2}
ADAPTER_RATE = 5e-3
WRITING = {
    "reward_funcs": ["plain.py:share"],
    "trust_reward_code": True,
    "num_generations": 8,
    "max_completion_length": 8,
}
PLAIN = """\
def share(answers, **_):
    return [sum(letter.isascii() for letter in answer) / max(1, len(answer)) for answer in answers]
"""


def keys_of(stage: str, method: str) -> dict[str, Any]:
    asked = {**STAGES[stage], **METHODS[method]}
    online = WRITING if asked["stage"] in ("grpo", "rloo") else {}
    return {
        "dataset": [DATA.get(asked["stage"], "pairs")],
        "learning_rate": RATES.get(method, ADAPTER_RATE),
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 8 if online else 4,
        "gradient_accumulation_steps": 1,
        "max_steps": STEPS,
        "save_steps": 0,
        "cutoff_len": 48,
        "bf16": False,
        **asked,
        **online,
    }


def gain(run: Finished) -> tuple[float, float]:
    """What the stage is about, at the beginning and at the end: the reward, or the loss with its sign turned."""
    steps = run.events("step")
    assert len(steps) == STEPS
    figures = [step["metrics"]["reward"] if "reward" in step["metrics"] else -step["loss"] for step in steps]
    return mean(figures[:EDGE]), mean(figures[-EDGE:])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny model that has opinions: a reward has something to tell apart at once."""
    return make_model(tmp_path_factory.mktemp("model"), tokenizer_dir, initializer_range=0.1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a model only waits for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("stage", "method"), LEGAL)
def test_a_legal_pair_learns(tmp_path: Path, model: Path, sets_dir: Path, stage: str, method: str) -> None:
    run = Finished(tmp_path / "run")
    (sets_dir / "rewards").mkdir(exist_ok=True)
    (sets_dir / "rewards/plain.py").write_text(PLAIN)
    write_config(run.run_dir, "train", model, sets_dir, keys_of(stage, method))
    train_here(run.run_dir)
    before, after = gain(run)
    assert after > before + 0.01 * abs(before)


@pytest.mark.parametrize(("stage", "method"), ILLEGAL)
def test_an_illegal_pair_is_refused_with_what_to_change(stage: str, method: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(TrainConfig, {"dataset": "a", **STAGES[stage], **METHODS[method]})
    assert tuple(caught.value.problems) == refusals(stage, method)
