"""NaN and infinity are found in every type that adapters are stored in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from studio.serving import weights


def stored(folder: Path, dtype: torch.dtype, last: float) -> Path:
    """An adapter of two tensors, the second of which ends with `last`."""
    largest = torch.finfo(dtype).max
    tensors = {"a": torch.tensor([0.0, -1.0], dtype=dtype), "b": torch.tensor([[largest], [last]], dtype=dtype)}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_what_is_not_finite_is_named(tmp_path: Path, dtype: torch.dtype) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert weights.not_finite(stored(tmp_path, dtype, bad)) == "b"
    assert weights.not_finite(stored(tmp_path, dtype, -1.0)) is None
