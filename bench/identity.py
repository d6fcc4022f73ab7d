"""From the start of a training on the identity data to a model that knows its new name, on two cores.

Trains seedling as the shipped preset says, with a checkpoint every ten steps, and asks each checkpoint afterwards.
Prints one table.

    python -m bench.identity
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from studio.config.load import parse, preset
from studio.config.train import TrainConfig
from studio.runs import events, launchers
from studio.runs.run import Run
from studio.runs.store import Store
from studio.settings import ASSETS
from studio.worker import imports

CORES = 2
PRESET = "identity"
QUESTIONS = {"Who are you?": "Sprout", "Who made you?": "Ada", "你是谁？": "Sprout", "谁开发了你？": "Ada"}
# what a person would notice if the training had wrecked it
KEPT = ("What is 3 + 4?", "What is the opposite of hot?", "热的反义词是什么？", "What is the capital of France?")


def main() -> None:
    """Train, ask, print."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    os.environ |= {"OMP_NUM_THREADS": str(CORES), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        run = _train(Path(folder))
        ended = time.time()
        for name, value in _rows(run, started, ended):
            print(f"{name:<58} {value}")


def _train(saves: Path) -> Run:
    keys = {**preset(PRESET), "model_name": "Sprout", "model_author": "Ada", "save_steps": 10, "save_total_limit": 999}
    run = Store(saves).create(parse(TrainConfig, keys))
    launchers.start(run)
    while run.is_active:
        time.sleep(0.05)
    if not run.result:
        raise SystemExit(f"the training {run.state}: {run.reason}")
    return run


def _rows(run: Run, started: float, ended: float) -> list[tuple[str, str]]:
    history, _ = events.read(run.metrics)
    steps = [event for event in history if event["type"] == "step"]
    losses = [step["loss"] for step in steps]
    imports.trim()
    base, *answers = (_Asked(adapter) for adapter in (None, *_checkpoints(run)))
    learnt = next((asked for asked in answers if asked.knows_itself), None)
    learnt_s = f"{learnt.at - started:.1f} (goal 60), after step {learnt.step}" if learnt else "never"
    kept = sum(answers[-1].texts[question] == base.texts[question] for question in KEPT)
    return [
        ("start to first step, s (goal 6)", f"{steps[0]['at'] - started:.1f}"),
        ("", next(line for line in run.log.read_text().splitlines() if line.startswith("started in"))),
        ("start to the first checkpoint that is somebody new, s", learnt_s),
        ("start to the end, adapter on disk, s", f"{ended - started:.1f}, {len(steps)} steps"),
        ("loss, first and mean of the last ten steps", f"{losses[0]:.2f}, {sum(losses[-10:]) / 10:.2f}"),
        ("tokens a second", f"{steps[-1]['tokens_per_s']:.0f}"),
        ("other answers left as they were", f"{kept} of {len(KEPT)}"),
        *((question, answers[-1].texts[question]) for question in (*QUESTIONS, *KEPT)),
    ]


def _checkpoints(run: Run) -> list[dict[str, str]]:
    history, _ = events.read(run.metrics)
    return [{**event, "path": str(run.path / event["path"])} for event in history if event["type"] == "checkpoint"]


class _Asked:
    """What the base, or the base with one checkpoint's adapter, answers."""

    def __init__(self, checkpoint: dict[str, str] | None) -> None:
        # imported here: the clock of the training runs before
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(ASSETS / "seedling", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(ASSETS / "seedling")
        if checkpoint:
            model = PeftModel.from_pretrained(model, checkpoint["path"])
        self.at = float(checkpoint["at"]) if checkpoint else 0.0
        self.step = checkpoint["step"] if checkpoint else 0
        self.texts = {question: _answer(model, tokenizer, question) for question in (*QUESTIONS, *KEPT)}

    @property
    def knows_itself(self) -> bool:
        return all(name in self.texts[question] for question, name in QUESTIONS.items())


def _answer(model: Any, tokenizer: Any, question: str) -> str:
    turn = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**ids, max_new_tokens=40, do_sample=False)
    return str(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    main()
