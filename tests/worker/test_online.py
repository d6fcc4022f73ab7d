"""Trainings on rewards: the reward rises, a resume is exact, a stop is quick, a wrong reward is told."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from studio.errors import DatasetError, ModelError, RewardError
from studio.worker.stages.online import Online
from tests.worker.conftest import Finished, Train, register

SHORT = {
    "stage": "grpo",
    "finetuning_type": "full",
    "reward_funcs": "length",
    "reward_length": 4,
    "num_generations": 4,
    "max_completion_length": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "max_steps": 30,
    "save_steps": 0,
}
FORMAT = {"reward_funcs": "format_match", "reward_pattern": "[xyz]"}
SUMS = {
    "model_name_or_path": "seedling",
    "finetuning_type": "lora",
    "lora_rank": 16,
    "learning_rate": 2e-3,
    "reward_funcs": "number_match",
    "max_completion_length": 12,
    "max_steps": 14,
}
BRIEF = """
from dataclasses import dataclass

@dataclass
class Wanted:
    letter: str = "a"

def letters(answers, references, questions):
    assert all(reference.startswith("It is") for reference in references)
    assert all(question.startswith("What is") for question in questions)
    return [answer.count(Wanted().letter) / 4 for answer in answers]

def broken(answers):
    return [1 / len(answer.split("never there")[1]) for answer in answers]
"""


def rewards_of(run: Finished) -> list[float]:
    """Of the steps that drew answers: others learn from the last ones again."""
    return [event["metrics"]["reward"] for event in run.events("step") if "reward" in event["metrics"]]


def figures(run: Finished) -> list[tuple[int, float, dict[str, float]]]:
    return [(event["step"], event["loss"], event["metrics"]) for event in run.events("step")]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    "keys",
    [
        {"stage": "grpo", "kl_coef": 0.01},
        {"stage": "rloo", **SUMS},
        {"stage": "grpo", "num_iterations": 2, "bf16": True, **FORMAT},
    ],
    ids=[
        "grpo towards a length, held by KL",
        "rloo of an adapter of the bundled model towards right sums",
        "grpo towards a format, twice from each answer in bf16",
    ],
)
def test_the_reward_rises(train: Train, keys: dict[str, object]) -> None:
    run = train(**{**SHORT, **keys})
    rewards = rewards_of(run)
    assert len(rewards) == int(str(keys.get("max_steps", 30))) // int(str(keys.get("num_iterations", 1)))
    assert mean(rewards[-5:]) > mean(rewards[:5]) + 0.2
    metrics = run.events("step")[0]["metrics"]
    reward = keys.get("reward_funcs", "length")
    assert {"reward_std", "completions/mean_length", "entropy", f"rewards/{reward}/mean"} <= set(metrics)
    assert ("kl" in metrics) == ("kl_coef" in keys)
    samples = run.events("sample")
    assert len(samples) >= 14
    assert samples[0]["prompt"].startswith("What is")


def test_a_persons_own_reward_is_learned_from(train: Train, data_dir: Path) -> None:
    (data_dir / "rewards").mkdir()
    (data_dir / "rewards/brief.py").write_text(BRIEF)
    own = {**SHORT, "trust_reward_code": True, "reward_weights": "1,0.5"}
    run = train(**{**own, "reward_funcs": "brief.py:letters,length"})
    rewards = rewards_of(run)
    assert mean(rewards[-5:]) > mean(rewards[:5]) + 0.2
    last = run.events("step")[-1]["metrics"]
    weighed = last["rewards/brief.letters/mean"] + 0.5 * last["rewards/length/mean"]
    assert last["reward"] == pytest.approx(weighed, abs=1e-5)
    with pytest.raises(
        RewardError, match=r"brief.py:broken failed: brief.py, line 14: IndexError.* at the prompt 'What"
    ):
        train("broken", **{**own, "reward_funcs": "brief.py:broken", "reward_weights": ""})


@pytest.mark.parametrize(
    "keys",
    [
        {"finetuning_type": "full"},
        {"finetuning_type": "lora", "lora_dropout": 0.1, "num_iterations": 2, "kl_coef": 0.1},
    ],
    ids=["full, once", "lora, twice"],
)
def test_a_resumed_training_is_exact(train: Train, keys: dict[str, object]) -> None:
    # 24 prompts, 4 a step: 6 steps an epoch; resumed in the second, in the middle of a batch that is used twice
    steps = {**SHORT, **FORMAT, "max_steps": 16, "save_steps": 3, "save_total_limit": 9, **keys}
    whole = train("whole", **steps)
    (whole.run_dir.parent / "resumed/checkpoints").mkdir(parents=True)
    name = "checkpoints/checkpoint-9"
    (whole.run_dir / name).rename(whole.run_dir.parent / "resumed" / name)
    resumed = train("resumed", **steps, resume_from_checkpoint=name)
    assert figures(resumed) == figures(whole)[9:]
    assert any(event["grad_norm"] > 0 for event in resumed.events("step"))
    output = "model/model" if keys["finetuning_type"] == "full" else "adapter/adapter_model"
    left, right = (load_file(run.run_dir / f"{output}.safetensors") for run in (resumed, whole))
    assert all(torch.equal(left[key], right[key]) for key in right)


def test_an_adapter_that_is_gone_on_with_is_resumed_beside_its_reference(train: Train) -> None:
    steps = {**SHORT, **FORMAT, "finetuning_type": "lora", "max_steps": 4, "learning_rate": 3e-2}
    begun = train("begun", **steps)
    more = {**steps, "save_steps": 2, "kl_coef": 0.1, "adapter_name_or_path": str(begun.run_dir / "adapter")}
    whole = train("whole", **more)
    name = "checkpoints/checkpoint-2"
    shutil.copytree(whole.run_dir / name, whole.run_dir.parent / "resumed" / name)
    resumed = train("resumed", **more, resume_from_checkpoint=name)
    assert figures(resumed) == figures(whole)[2:]
    assert figures(whole)[0][2]["kl"] == 0 < figures(resumed)[0][2]["kl"]


def test_a_stop_does_not_wait_for_an_answer_and_is_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {**SHORT, **FORMAT, "finetuning_type": "lora", "max_steps": 6}
    whole = train("whole", **steps)
    heed, tokens = Online._heed_stop, [0]

    def stop_within_the_fourth_step(trainer: Online, *_: object) -> None:
        tokens[0] += trainer.state.global_step == 3
        if tokens[0] == 4:
            (trainer.desk.run_dir / "STOP").touch()
            while not trainer.desk.requests.stop:
                time.sleep(0.01)
        heed(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Online, "_heed_stop", stop_within_the_fourth_step)
        stopped = train("stopped", **steps)
    assert tokens == [4]
    assert (stopped.json("result.json")["steps"], stopped.json("result.json")["stopped"]) == (3, True)
    name = "checkpoints/checkpoint-3"
    shutil.copytree(stopped.run_dir / name, stopped.run_dir.parent / "resumed" / name)
    resumed = train("resumed", **steps, resume_from_checkpoint=name)
    assert figures(stopped) + figures(resumed) == figures(whole)


def test_rewards_that_know_no_difference_are_warned_of(train: Train) -> None:
    same = {**SHORT, "reward_funcs": "format_match", "reward_pattern": "(?!)", "max_steps": 12}
    assert "all answers to a prompt got the same reward (now 0), so nothing is learned" in train(**same).notes


def test_validations_give_rewards_and_the_best_is_kept(train: Train) -> None:
    best = {"val_size": 4, "eval_steps": 5, "load_best_model_at_end": True, "metric_for_best_model": "reward"}
    run = train(**{**SHORT, **best, "max_steps": 20})
    evals = {event["step"]: event["metrics"]["reward"] for event in run.events("eval")}
    result = run.json("result.json")
    assert result["best_value"] == pytest.approx(max(evals.values()))
    assert evals[result["best_step"]] == max(evals.values())
    assert "perplexity" not in run.events("eval")[0]["metrics"]


def test_a_reward_model_judges(train: Train, tmp_path: Path) -> None:
    pairs = [
        {"instruction": f"What is {n} plus one?", "input": "", "chosen": "aaa", "rejected": f"It is {n}."}
        for n in range(24)
    ]
    folder = register(tmp_path / "pairs", pairs=pairs)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({"pairs": {**info["pairs"], "ranking": True}}))
    rater = {"stage": "rm", "dataset": "pairs", "dataset_dir": str(folder), "max_steps": 20, "learning_rate": 1e-2}
    for name, method in (("whole", "full"), ("adapted", "lora")):
        train(name, **rater, finetuning_type=method, save_steps=0)
        run = train(f"by {name}", **{**SHORT, "reward_funcs": "reward_model", "reward_model": name})
        rewards = rewards_of(run)
        assert mean(rewards[-10:]) > mean(rewards[:10])
    with pytest.raises(ModelError, match="has no score head: train one with stage rm"):
        train("none", **{**SHORT, "reward_funcs": "reward_model", "reward_model": str(tmp_path / "by whole")})


def test_too_few_prompts_are_refused(train: Train) -> None:
    with pytest.raises(DatasetError, match="there are 24 prompts, and a step takes 32"):
        train(**{**SHORT, "gradient_accumulation_steps": 16})
