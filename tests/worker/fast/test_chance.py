"""What is random in a model is found, wherever it is said."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from transformers import AutoConfig

from studio.worker.fast import chance
from tests.worker.fast.test_lora import base, config


@pytest.mark.parametrize("changes", [{}, {"lora_dropout": 0.1}, {"neftune_noise_alpha": 5}])
def test_of_the_training(changes: dict[str, Any]) -> None:
    assert chance.is_in(config(**changes), base()) is bool(changes)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_of_a_part_of_the_model(share: float) -> None:
    """In its configuration, in a configuration within that, or in no configuration."""
    assert chance.is_in(config(), base(attention_dropout=share)) is bool(share)
    within = base()
    within.config = AutoConfig.for_model("gemma3", text_config={"attention_dropout": share})
    assert chance.is_in(config(), within) is bool(share)
    own = base()
    own.model.layers[0].mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(share))
    assert chance.is_in(config(), own) is bool(share)
