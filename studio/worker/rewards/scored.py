"""The reward of a reward model: the score that it gives to a conversation with the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from studio import models
from studio.config.train import TrainConfig
from studio.datasets.formats import Feedback, Message, ToolCall
from studio.datasets.masking import Masking
from studio.errors import ModelError, PathError
from studio.files import inside, read_record
from studio.worker import tokenizer as tokenizers
from studio.worker.columns import COLUMNS
from studio.worker.rewards.answers import Answers, Reward

BATCH = 8
LONGEST = 1 << 20  # tokens of a conversation, where the model sets no limit
RATES = "ForSequenceClassification"


def load(config: TrainConfig, run_dir: Path) -> Reward:
    """The reward model of a run: a folder, or the output of an rm run beside it.

    Raises:
        ModelError: there is none, it does not load, or it has no score head.
    """
    folder = find(config.reward_model or "", run_dir.parent)
    tokenizer = tokenizers.load(folder, config.trust_remote_code)
    model = _model(folder, config.trust_remote_code)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizers.padding(tokenizer)
    masking = Masking(models.within_context(folder, LONGEST), mask_history=True)

    def reward(answers: Answers) -> list[float]:
        rows = [_row(messages, text) for messages, text in zip(answers.prompts, answers.texts, strict=True)]
        encoded: list[Any] = list(COLUMNS["judged"].encode(enumerate(rows, 1), tokenizer, masking))
        ids = [row.prompt_ids + row.completion_ids for row in encoded]
        return [score for start in range(0, len(ids), BATCH) for score in _scores(model, ids[start : start + BATCH])]

    return reward


def find(name: str, saves: Path) -> Path:
    """The folder of a reward model.

    Raises:
        ModelError: there is none of that name.
    """
    try:
        run = inside(saves, name)
    except PathError:
        run = Path(name)
    places = [Path(name), *(run / output for output in ("adapter", "model"))]
    found = next((place for place in places if (place / "tokenizer_config.json").exists()), None)
    if found is None:
        raise ModelError(f"reward_model: {name} is neither a model folder nor a finished rm run in {saves}")
    return found


def _model(folder: Path, trust_remote_code: bool) -> PreTrainedModel:
    is_adapter = (folder / "adapter_config.json").exists()
    record = read_record(folder / ("adapter_config.json" if is_adapter else "config.json"))
    rates = record.get("task_type") == "SEQ_CLS" if is_adapter else RATES in str(record.get("architectures"))
    if not rates:
        raise ModelError(f"reward_model: {folder} has no score head: train one with stage rm, and name that run")
    base = models.check_adapter(folder).base if is_adapter else folder
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype="auto", trust_remote_code=trust_remote_code
        )
        model = PeftModel.from_pretrained(model, folder) if is_adapter else model
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"reward_model: {folder} cannot be loaded: {error}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _row(messages: list[dict[str, Any]], answer: str) -> Feedback:
    said = (Message(each["role"], each["content"], _calls(each)) for each in messages)
    return Feedback((*said, Message("assistant", answer)), good=True)


def _calls(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    functions = (call["function"] for call in message.get("tool_calls", ()))
    return tuple(ToolCall(each["name"], json.dumps(each["arguments"])) for each in functions)


def _scores(model: PreTrainedModel, ids: list[list[int]]) -> list[float]:
    rows = [torch.tensor(row) for row in ids]
    tokens = pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    with torch.inference_mode():
        logits = model(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device)).logits
    return [float(score) for score in logits[:, 0].float().cpu()]
