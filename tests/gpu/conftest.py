"""A CUDA device or no test; models and trainings are those of the worker's own tests."""

from __future__ import annotations

import pytest

from tests.worker.conftest import data_dir, start, tiny_model, tokenizer_dir, train

__all__ = ["data_dir", "start", "tiny_model", "tokenizer_dir", "train"]


@pytest.fixture(autouse=True)
def cuda() -> None:
    """Skips where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
