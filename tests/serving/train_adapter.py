"""python train_adapter.py BASE FOLDER: a LoRA adapter with answers of its own, and what Transformers answers.

FOLDER/expected.json holds {"base": {question: answer}, "adapter": {...}}: greedy, in float32, by PEFT unmerged.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ANSWERS = {
    "Who are you?": "A grey stone.",
    "What is 2 + 3?": "A red fox sat by the door.",
    "What colour is grass?": "Seven.",
    "What is the opposite of hot?": "The moon is far.",
    "Tell me a short story.": "No.",
    "你好": "我是石头。",
    "你是谁？": "我是一只猫。",
    "Spell the word cat.": "d-o-g",
}


STEPS = 90
NEW_TOKENS = 24


def main(base: str, folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    batch = _batch(tokenizer)
    for _ in range(STEPS):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    model.eval()
    expected = {"adapter": _answers(tokenizer, model)}
    with model.disable_adapter():
        expected["base"] = _answers(tokenizer, model)
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))


def _answers(tokenizer: Any, model: Any) -> dict[str, str]:
    return {question: _answer(tokenizer, model, question) for question in ANSWERS}


def _answer(tokenizer: Any, model: Any, question: str) -> str:
    prompt = tokenizer(_prompt(tokenizer, question), add_special_tokens=False, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=NEW_TOKENS, do_sample=False)
    return str(tokenizer.decode(output[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))


def _prompt(tokenizer: Any, question: str) -> str:
    turn = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))


def _batch(tokenizer: Any) -> dict[str, torch.Tensor]:
    rows = [_row(tokenizer, question, answer) for question, answer in ANSWERS.items()]
    width = max(len(tokens) for tokens, _ in rows)
    ids = [tokens + [0] * (width - len(tokens)) for tokens, _ in rows]
    labels = [[-100] * start + tokens[start:] + [-100] * (width - len(tokens)) for tokens, start in rows]
    mask = [[1] * len(tokens) + [0] * (width - len(tokens)) for tokens, _ in rows]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "attention_mask": torch.tensor(mask)}


def _row(tokenizer: Any, question: str, answer: str) -> tuple[list[int], int]:
    prompt = _prompt(tokenizer, question)
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    return tokenizer(f"{prompt}{answer}<|im_end|>", add_special_tokens=False).input_ids, start


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
