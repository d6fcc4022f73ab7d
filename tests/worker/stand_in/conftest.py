"""A small model with chance for weights, and what `generate` answers with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tests.worker.conftest import make_model

PROMPT = (5, 60, 61, 62, 63)
TOKENS = 12


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("stand_in_model")
    return make_model(folder, tokenizer_dir, dtype=torch.float32, initializer_range=0.4)


@pytest.fixture
def model(model_dir: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_dir).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_dir)


def greedy(model: Any, prompt: tuple[int, ...] = PROMPT, tokens: int = TOKENS) -> list[int]:
    """What `generate` answers, whatever token ends an answer."""
    ids = torch.tensor([prompt], device=model.device)
    options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :].tolist()


def make_adapter(model_dir: Path, config: PeftConfig, folder: Path) -> list[int]:
    """Save an adapter with chance for weights in `folder`; what PEFT answers with it."""
    torch.manual_seed(7)
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model_dir), config).eval()
    with torch.no_grad():
        for weight in tuned.parameters():
            if weight.requires_grad:
                weight += 0.2 * torch.randn_like(weight)
    tuned.save_pretrained(folder)
    return greedy(tuned)
