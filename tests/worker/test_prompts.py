"""Prompts of trainings on rewards are what any conversation is up to its last answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from studio import models
from studio.datasets.formats import Conversation, Message
from studio.datasets.masking import Masking
from studio.errors import RowError
from studio.worker import tokenizer as tokenizers
from studio.worker.prompts import prompted

MASKING = Masking(512, default_system="Be brief.")
TALK = Conversation(
    (
        Message("user", "What is one plus one?"),
        Message("assistant", "<think>easy</think>\n\nIt is two."),
        Message("user", "And one more?"),
        Message("assistant", "It is three."),
    )
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizers.load(Path(models.resolve(models.BUNDLED)), trust_remote_code=False)


def test_thoughts_stay_or_go_as_they_do_in_answers_that_are_learnt(tokenizer: PreTrainedTokenizerBase) -> None:
    [whole] = prompted([(1, TALK)], tokenizer, MASKING)
    [bare] = prompted([(1, TALK)], tokenizer, replace(MASKING, enable_thinking=False))
    assert "easy" in tokenizer.decode(whole.prompt_ids)
    assert "easy" not in tokenizer.decode(bare.prompt_ids)
    assert bare.reference == "It is three."
    assert "Be brief." in bare.prompt


def test_tools_that_are_no_json_are_named_by_row(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(RowError, match=r"row 7.*tools are not valid JSON"):
        list(prompted([(7, replace(TALK, tools="{"))], tokenizer, MASKING))
