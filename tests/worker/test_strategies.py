"""Two processes under each strategy, on the CPU with gloo, train the bundled model as one process does: the same rows
in a step, the same curve, the same weights at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.settings import ASSETS, ROOT
from tests.worker.conftest import Finished, spawn, write_config

STEPS = 20
CLOSE = 1e-4
CLOSE_WEIGHTS = 1e-6  # of their largest and their mean; one step moves a weight by 1e-3
KEYS: dict[str, Any] = {
    "dataset": ["alpaca_demo"],
    "finetuning_type": "full",
    "cutoff_len": 32,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
    "max_steps": STEPS,
    "save_steps": STEPS,
}
LORA = {"finetuning_type": "lora", "lora_rank": 4, "learning_rate": 3e-3}
TO_CPU: dict[str, Any] = {"offload_optimizer": "cpu"}
ALL_TO_CPU: dict[str, Any] = {**TO_CPU, "offload_param": "cpu"}
ZERO_PART = "global_step20/*zero_pp_rank_1_mp_rank_00_optim_states.pt"
FSDP_PART = "optimizer/__1_0.distcp"

Alone = Callable[[str], Finished]


def train(run_dir: Path, cold: bool = False, **keys: Any) -> Finished:
    """A training to its end, of as many processes as its strategy starts; a `cold` one does its imports itself."""
    write_config(run_dir, "train", ASSETS / "seedling", ROOT / "data", {**KEYS, **keys})
    worker = spawn("launch" if "parallel_strategy" in keys else "train", run_dir, cold)
    assert worker.wait() == 0, worker.log
    return worker


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The training of one process, full or of a LoRA."""
    folder = tmp_path_factory.mktemp("alone")
    done: dict[str, Finished] = {}

    def of(kind: str) -> Finished:
        if kind not in done:
            done[kind] = train(folder / kind, gradient_accumulation_steps=2, **(LORA if kind == "lora" else {}))
        return done[kind]

    return of


@pytest.mark.parametrize(
    ("strategy", "keys", "part"),
    [
        pytest.param("ddp", {}, "rng_state_1.pth", id="ddp"),
        pytest.param("zero1", {}, ZERO_PART, id="zero1"),
        pytest.param("zero2", {}, ZERO_PART, id="zero2"),
        pytest.param("zero2", TO_CPU, ZERO_PART, id="zero2 optimizer on cpu"),
        pytest.param("zero3", {}, ZERO_PART, id="zero3"),
        pytest.param("zero3", TO_CPU, ZERO_PART, id="zero3 optimizer on cpu"),
        pytest.param("zero3", ALL_TO_CPU, ZERO_PART, id="zero3 all on cpu"),
        pytest.param("zero3", LORA, ZERO_PART, id="zero3 lora"),
        pytest.param("fsdp2", {}, FSDP_PART, id="fsdp2"),
        pytest.param("fsdp2", {"offload_param": "cpu"}, FSDP_PART, id="fsdp2 on cpu"),
        pytest.param("fsdp2", LORA, FSDP_PART, id="fsdp2 lora"),
    ],
)
def test_two_processes_train_as_one(
    tmp_path: Path, alone: Alone, strategy: str, keys: dict[str, Any], part: str
) -> None:
    several = {"parallel_strategy": strategy, "nproc_per_node": 2, "gradient_accumulation_steps": 1}
    run = train(tmp_path / "run", cold=strategy == "ddp", **several, **keys)
    expected = alone(str(keys.get("finetuning_type", "full")))
    assert list(run.losses) == list(expected.losses) == list(range(1, STEPS + 1))
    assert farthest(run.losses, expected.losses) < CLOSE
    losses = list(run.losses.values())
    assert sum(losses[-5:]) < sum(losses[:5]) - 5, "the curve must be one of learning"
    assert list((run.run_dir / f"checkpoints/checkpoint-{STEPS}").glob(part)), "the second process kept no part"
    assert is_as_asked(run, strategy, keys)
    assert farthest(weights(run), weights(expected)) < CLOSE_WEIGHTS


def is_as_asked(run: Finished, strategy: str, keys: dict[str, Any]) -> bool:
    """Whether DeepSpeed ran with the stage and the places that were asked for, or not at all."""
    ran = (run.json("deepspeed.json") or {}).get("zero_optimization", {})
    if not strategy.startswith("zero"):
        return not ran
    asked = {name: keys[name] for name in ("offload_optimizer", "offload_param") if name in keys}
    places = {name: ran[name]["device"] for name in ("offload_optimizer", "offload_param") if name in ran}
    return ran["stage"] == int(strategy[-1]) and places == asked


def farthest(left: dict[Any, float], right: dict[Any, float]) -> float:
    """The largest difference between values of the same name."""
    assert left.keys() == right.keys()
    return max(abs(value - right[name]) for name, value in left.items())


def weights(run: Finished) -> dict[str, float]:
    """The largest and the mean value of each weight of the output."""
    from safetensors.torch import load_file

    output = run.run_dir / run.json("result.json")["output"]
    [path] = output.glob("*.safetensors")
    found = {name: weight.double() for name, weight in load_file(path).items()}
    return {f"{name} {what}": value for name, weight in found.items() for what, value in _figures(weight)}


def _figures(weight: Any) -> list[tuple[str, float]]:
    return [("largest", float(weight.abs().max())), ("mean", float(weight.mean()))]
