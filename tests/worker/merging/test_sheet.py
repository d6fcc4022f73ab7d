"""A base as its headers and its configuration tell of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from studio.files import write_json
from studio.worker.merging.sheet import Sheet

ENDS = ("model.language_model.embed_tokens.weight", "lm_head.weight")


@pytest.mark.parametrize("outer", [True, False], ids=["tied outside", "tied inside"])
def test_the_outer_configuration_says_whether_the_ends_are_tied(tmp_path: Path, outer: bool) -> None:
    """As loaders read it: Qwen3-VL's mixture writes false there, and true into the part about text."""
    save_file({name: torch.zeros(6, 4) for name in ENDS}, tmp_path / "model.safetensors")
    inner = {"text_config": {"tie_word_embeddings": not outer}}
    write_json(tmp_path / "config.json", {"tie_word_embeddings": outer, **inner})
    assert Sheet(tmp_path, "auto").is_tied is outer


def test_a_part_about_text_speaks_where_the_outer_configuration_does_not(tmp_path: Path) -> None:
    save_file({name: torch.zeros(6, 4) for name in ENDS}, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"text_config": {"tie_word_embeddings": True}})
    assert Sheet(tmp_path, "auto").is_tied
