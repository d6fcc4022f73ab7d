"""Perplexity against the loss that Transformers computes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from studio.errors import ModelError
from studio.worker.encode import Encoded
from studio.worker.quantizing import perplexity

ROWS = (Encoded(1, [5, 6, 7, 8], [-100, -100, 7, 8], 0), Encoded(2, [9, 10, 11], [9, 10, 11], 0))


def test_it_is_the_loss_over_the_tokens_that_count(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    nats = 0.0
    for row in ROWS:
        loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        nats += loss.item() * 2  # each has two labels after its first token
    told: list[tuple[int, int]] = []
    found = perplexity.of(model, ROWS, lambda done, total: told.append((done, total)))
    assert found == pytest.approx(math.exp(nats / 4), rel=1e-5)
    assert told == [(1, 2), (2, 2)]


def test_a_model_of_nan_has_no_perplexity(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.get_output_embeddings().weight.data.fill_(torch.nan)
    assert perplexity.of(model, ROWS, lambda done, total: None) == math.inf


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        perplexity.of_folder(tmp_path, ROWS, "cpu", lambda done, total: None)
