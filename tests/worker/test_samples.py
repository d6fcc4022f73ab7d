"""Answers on the way: there, of the right steps, and without a trace in the training."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from studio.config.train import TrainConfig
from studio.worker.door import Clock, Desk
from studio.worker.report import Reporter
from studio.worker.samples import ANSWER_TOKENS, Samples, ends
from studio.worker.stop import Requests
from studio.worker.tokenizer import load
from tests.worker.conftest import Finished, Train

KEYS = {"lora_dropout": 0.1, "max_steps": 8, "save_steps": 0, "val_size": 4, "eval_steps": 3}
PROMPTS = "What is 3 plus one?\n\n  Who are you?  \n"


def samples(run: Finished) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for event in run.events("sample"):
        found.setdefault(event["step"], []).append(event["prompt"])
    return found


@pytest.mark.parametrize(
    ("every", "keys"),
    [(4, {}), (8, {"gradient_checkpointing": True, "bf16": True})],
    ids=["plain", "checkpointed bf16"],
)
def test_the_curve_is_the_same_with_samples_and_without(train: Train, every: int, keys: dict[str, object]) -> None:
    without = train("without", **KEYS, **keys)
    sampled = train("sampled", **KEYS, **keys, sample_prompts=PROMPTS, sample_steps=every)
    figures = ("loss", "grad_norm", "metrics", "tokens")
    ours, theirs = ([[event[key] for key in figures] for event in run.events("step")] for run in (sampled, without))
    assert ours == theirs
    assert [event["eval_loss"] for event in sampled.events("eval")] == [
        event["eval_loss"] for event in without.events("eval")
    ]
    asked = ["What is 3 plus one?", "Who are you?"]
    assert samples(sampled) == dict.fromkeys(range(0, 9, every), asked)
    assert samples(without) == {}


def test_samples_come_with_validations_and_show_what_is_learned(train: Train) -> None:
    learn = {"finetuning_type": "full", "learning_rate": 1e-2, "max_steps": 40, "eval_steps": 15}
    run = train(**{**KEYS, **learn}, sample_prompts="What is 3 plus one?")
    assert list(samples(run)) == [0, 15, 30, 40]
    first, *_, last = run.events("sample")
    assert not first["answer"].startswith("It is")
    assert last["answer"].startswith("It is")
    assert "<|im_end|>" not in last["answer"]


def test_plain_text_is_gone_on_with(train: Train, tmp_path: Path) -> None:
    (tmp_path / "data/plain.txt").write_text("Who are you? I am Sprout, made by Ada.\n" * 8)
    (tmp_path / "data/dataset_info.json").write_text(
        '{"plain": {"file_name": "plain.txt", "columns": {"prompt": "text"}}}'
    )
    keys = {"stage": "pt", "dataset": "plain", "finetuning_type": "full", "learning_rate": 1e-2, "max_steps": 30}
    run = train(**keys, save_steps=0, sample_prompts="Who are you?")
    assert run.events("sample")[-1]["answer"].startswith("I am Sprout")


def test_a_stop_request_ends_an_answer(tmp_path: Path, tiny_model: Path) -> None:
    desk = Desk(tmp_path, Reporter(tmp_path), Requests(tmp_path, lambda: None), Clock())
    desk.requests.protect()
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).train()
    model.generation_config.eos_token_id = None
    tokenizer = load(tiny_model, trust_remote_code=False)
    tokenizer.eos_token = None
    asked = Samples(
        desk,
        TrainConfig(dataset="demo", sample_prompts="\n".join("abcdef")),
        tokenizer,
        torch.float32,
        torch.device("cpu"),
    )
    steps: list[int] = []

    def stop(*_: object) -> None:
        steps.append(1)
        if len(steps) == 30:
            (tmp_path / "STOP").touch()
            stopped = threading.Event()
            while not desk.requests.stop:
                stopped.wait(0.01)

    model.register_forward_hook(stop)
    asked.take(model, 1)
    desk.reporter.close()
    assert len(steps) < 40 < ANSWER_TOKENS  # the answer that is cut off is not shown, others are not begun
    assert Finished(tmp_path).events("sample") == []
    assert all(module.training for module in model.modules())


def test_an_answer_ends_where_model_or_tokenizer_say(tiny_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), load(tiny_model, trust_remote_code=False)
    assert ends(model, tokenizer) == [2]
    model.generation_config.eos_token_id = [7, 2]
    assert ends(model, tokenizer) == [2, 7]
    model.generation_config.eos_token_id = None
    assert ends(model, tokenizer) == [2]
