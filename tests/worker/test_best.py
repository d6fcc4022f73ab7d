"""The best checkpoint: known, kept from deletion, restored, and known again after a resume; early stopping."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerState

from studio.config.train import TrainConfig
from studio.errors import RunError
from studio.runs.events import Eval
from studio.worker.best import Best
from tests.worker.conftest import Finished, Train, register, train_here, write_config

# what is trained is contradicted by what is validated: past the form of the answers, every step makes it worse
TRAINED = [{"instruction": f"What is {n} plus one?", "output": f"It is {n + 1}."} for n in range(12)]
HELD = [{"instruction": f"What is {n} plus one?", "output": f"It is {97 - n}."} for n in range(12)]
WORSE = {
    "eval_dataset": "held",
    "eval_steps": 4,
    "per_device_eval_batch_size": 12,
    "finetuning_type": "full",
    "learning_rate": 5e-3,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 6,
    "gradient_accumulation_steps": 1,
    "max_steps": 60,
    "save_steps": 4,
    "save_total_limit": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return register(tmp_path_factory.mktemp("best") / "data", demo=TRAINED, held=HELD)


@pytest.fixture(scope="module")
def stopped_early(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, data: Path) -> Finished:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    write_config(run_dir, "train", tiny_model, data, {**WORSE, "early_stopping_steps": 2})
    train_here(run_dir)
    return Finished(run_dir)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def test_a_training_that_gets_worse_stops_and_leaves_its_best_weights(stopped_early: Finished) -> None:
    result, evals = stopped_early.json("result.json"), stopped_early.events("eval")
    losses = {event["step"]: event["eval_loss"] for event in evals}
    best = min(losses, key=lambda step: losses[step])
    assert (result["best_step"], result["best_metric"]) == (best, "loss")
    assert result["best_value"] == pytest.approx(losses[best])
    assert result["steps"] == best + 8 < WORSE["max_steps"]  # two validations more
    assert list(losses) == list(range(4, result["steps"] + 1, 4))
    assert f"No validation was better than that after step {best}" in stopped_early.notes
    kept = sorted(path.name for path in (stopped_early.run_dir / "checkpoints").iterdir())
    assert kept == sorted([f"checkpoint-{best}", f"checkpoint-{result['steps']}"])
    output = weights(stopped_early.run_dir / "model")
    checkpoint = weights(stopped_early.run_dir / f"checkpoints/checkpoint-{best}")
    assert all(torch.equal(output[name], checkpoint[name].to(torch.bfloat16)) for name in output)


def test_perplexity_and_token_accuracy_come_with_every_validation(stopped_early: Finished) -> None:
    for event in stopped_early.events("eval"):
        assert event["metrics"]["perplexity"] == pytest.approx(torch.tensor(event["eval_loss"]).exp().item())
        assert 0 < event["metrics"]["token_accuracy"] < 1
        assert not {"num_tokens", "runtime", "loss"} & set(event["metrics"])


def test_the_best_is_known_after_a_resume(stopped_early: Finished, tiny_model: Path, data: Path) -> None:
    result = stopped_early.json("result.json")
    target = stopped_early.run_dir.parent / "resumed"
    (target / "checkpoints").mkdir(parents=True)
    for step in (result["best_step"], result["steps"]):
        name = f"checkpoints/checkpoint-{step}"
        (stopped_early.run_dir / name).rename(target / name)
    more = {"max_steps": result["steps"] + 4, "resume_from_checkpoint": f"checkpoints/checkpoint-{result['steps']}"}
    write_config(target, "train", tiny_model, data, {**WORSE, "load_best_model_at_end": True, **more})
    train_here(target)
    resumed = Finished(target)
    assert resumed.json("result.json")["best_step"] == result["best_step"]
    assert resumed.events("eval")[-1]["step"] == more["max_steps"]
    ours, theirs = weights(target / "model"), weights(stopped_early.run_dir / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_adapter_is_restored_too(train: Train, data: Path) -> None:
    lora = {"finetuning_type": "lora", "learning_rate": 3e-2, "early_stopping_steps": 1}
    run = train(**{**WORSE, **lora}, dataset_dir=str(data))
    result = run.json("result.json")
    assert result["best_step"] < result["steps"]
    output, checkpoint = (
        load_file(run.run_dir / name / "adapter_model.safetensors")
        for name in ("adapter", f"checkpoints/checkpoint-{result['best_step']}")
    )
    assert all(torch.equal(output[name], checkpoint[name]) for name in checkpoint)


def best(*datasets: str, **keys: object) -> Best:
    return Best(TrainConfig(dataset="demo", load_best_model_at_end=True, **keys), datasets)


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("loss", [3.0, 2.0, 2.0, 1.0], [True, True, False, True]),
        ("eval_loss", [float("nan"), 2.0, float("nan")], [False, True, False]),
        ("token_accuracy", [0.1, 0.3, 0.2], [True, True, False]),
        ("eval_mean_token_accuracy", [0.1, 0.3], [True, True]),
        ("perplexity", [9.0, 8.0, 10.0], [True, True, False]),
        ("rewards/margins", [-1.0, 0.5, 0.4], [True, True, False]),
    ],
)
def test_what_is_better_depends_on_the_metric(metric: str, values: list[float], expected: list[bool]) -> None:
    judge, state = best(metric_for_best_model=metric), TrainerState()
    name = metric.removeprefix("eval_").removeprefix("mean_")
    found = []
    for step, value in enumerate(values, 1):
        state.global_step = step
        event = Eval(step, value if name == "loss" else 1.0, 0.0, metrics={} if name == "loss" else {name: value})
        found.append(judge.judge(event, state))
    assert found == expected
    assert state.best_global_step == max(step for step, better in enumerate(expected, 1) if better)


def test_several_sets_are_judged_by_their_mean() -> None:
    judge, state = best("a", "b"), TrainerState(global_step=1)
    assert [judge.judge(Eval(1, loss, 0.0, name), state) for name, loss in (("a", 1.0), ("b", 3.0))] == [False, True]
    assert state.best_metric == 2.0
    state.global_step = 2
    assert [judge.judge(Eval(2, loss, 0.0, name), state) for name, loss in (("a", 0.5), ("b", 3.6))] == [False, False]


def test_of_several_sets_one_may_decide() -> None:
    judge, state = best("b", "b_c", metric_for_best_model="eval_b_c_perplexity"), TrainerState(global_step=1)
    found = [Eval(1, 9.0, 0.0, "b"), Eval(1, 1.0, 0.0, "b_c", {"perplexity": 2.7})]
    assert [judge.judge(each, state) for each in found] == [False, True]
    assert (state.best_metric, judge.metric) == (2.7, "b_c_perplexity")


@pytest.mark.parametrize(("metric", "last"), [("loss", "a"), ("b_loss", "a"), ("loss", "b"), ("b_loss", "b")])
def test_nothing_is_given_up_before_all_sets_are_validated(metric: str, last: str) -> None:
    judge, state = best("a", "b", metric_for_best_model=metric, early_stopping_steps=1), TrainerState()
    hopeless = []
    for state.global_step, name, loss in ((1, "a", 1.0), (1, "b", 2.0), (2, "a", 1.5), (2, "b", 3.0)):
        state.log_history.append({f"eval_{name}_loss": loss, "step": state.global_step})
        judge.judge(Eval(state.global_step, loss, 0.0, name), state)
        hopeless.append(judge.is_hopeless(state))
        if (state.global_step, name) == (2, last):
            break
    assert hopeless == [False, False, False, True][: 4 if last == "b" else 3]


def test_a_metric_that_validations_do_not_have_is_named_with_those_they_have() -> None:
    with pytest.raises(RunError, match="no bleu; it has loss, perplexity"):
        best(metric_for_best_model="bleu").judge(Eval(1, 1.0, 0.0, metrics={"perplexity": 2.7}), TrainerState())
