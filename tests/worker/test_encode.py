"""Which tokens are trained, compared with what the templates and the tokenizer say of each piece alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from studio.datasets.formats import Conversation, Message
from studio.errors import ModelError, RowError
from studio.worker.encode import IGNORED, Masking, encode
from tests.worker.conftest import CHATML, UNMARKED

TWO_TURNS = (
    ("user", "Who are you?"),
    ("assistant", "I am Sprout, made by Ada."),
    ("user", "你是谁？"),
    ("assistant", "我是小芽。\n\n  很高兴\n"),
)
# drops what the assistant thought in earlier turns, as reasoning models' templates do
FORGETFUL = UNMARKED.replace(
    "message['content'] + '<|im_end|>' }}\n{{- '\\n'",
    "(message['content'] if loop.last else message['content'].split('</think>')[-1]) + '<|im_end|>' }}\n{{- '\\n'",
)
ENDLESS = CHATML.replace(
    "message['content'] + '<|im_end|>' }}\n{%- endgeneration %}",
    "message['content'] }}\n{%- endgeneration %}{{- '<|im_end|>' }}",
)


@pytest.fixture
def tokenizer(tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_dir)


def conversation(*turns: tuple[str, str], tools: str | None = None) -> tuple[int, Conversation]:
    return 7, Conversation(tuple(Message(role, content) for role, content in turns), tools)


def trained(tokenizer: PreTrainedTokenizerBase, row: Any) -> list[str]:
    """The runs of trained tokens, as text."""
    pieces: list[list[int]] = [[]]
    for label in row.labels:
        if label == IGNORED:
            pieces.append([])
        else:
            pieces[-1].append(label)
    return [tokenizer.decode(piece) for piece in pieces if piece]


@pytest.mark.parametrize("template", [CHATML, UNMARKED, ENDLESS], ids=["marked", "unmarked", "end outside marks"])
def test_answers_are_trained_with_their_end(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    tokenizer.chat_template = template
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    assert trained(tokenizer, row) == [
        "I am Sprout, made by Ada.<|im_end|>",
        "我是小芽。\n\n  很高兴\n<|im_end|>",
    ]
    assert tokenizer.decode(row.input_ids).startswith(
        "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nI am"
    )


def test_tokens_are_those_of_the_template_itself(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [{"role": role, "content": content} for role, content in TWO_TURNS]
    expected = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    assert row.input_ids == expected["input_ids"]
    mask = [int(label != IGNORED) for label in row.labels]
    assert mask == expected["assistant_masks"]


def test_only_the_last_answer_with_masked_history(tokenizer: PreTrainedTokenizerBase) -> None:
    for template in (CHATML, UNMARKED):
        tokenizer.chat_template = template
        [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512, mask_history=True))
        assert trained(tokenizer, row) == ["我是小芽。\n\n  很高兴\n<|im_end|>"]


def test_prompts_are_trained_on_request_but_the_first_token(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512, train_on_prompt=True))
    assert row.labels == [IGNORED, *row.input_ids[1:]]


def test_a_default_system_prompt_goes_to_rows_without_one(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [conversation(*TWO_TURNS), conversation(("system", "Be kind."), *TWO_TURNS)]
    bare, kind = encode(rows, tokenizer, Masking(512, default_system="Be brief."))
    assert tokenizer.decode(bare.input_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert "Be brief." not in tokenizer.decode(kind.input_ids)


def test_long_rows_are_cut_and_say_by_how_much(tokenizer: PreTrainedTokenizerBase) -> None:
    [whole] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))
    [row] = encode([conversation(*TWO_TURNS)], tokenizer, Masking(20))
    assert row.input_ids == whole.input_ids[:20]
    assert row.labels == whole.labels[:20]
    assert row.cut == len(whole.input_ids) - 20
    assert encode([conversation(*TWO_TURNS)], tokenizer, Masking(8))[0].trained == 0


def test_a_template_that_rewrites_earlier_turns_is_refused_by_row(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = FORGETFUL
    thinking = [
        conversation(("user", "1+1?"), ("assistant", "<think>a</think>2"), ("user", "2+2?"), ("assistant", "4"))
    ]
    with pytest.raises(RowError, match=r"row 7: answer 1 .* mask_history"):
        encode(thinking, tokenizer, Masking(512))
    [row] = encode(thinking, tokenizer, Masking(512, mask_history=True))
    assert trained(tokenizer, row) == ["4<|im_end|>"]


def test_what_a_template_refuses_names_the_row_and_its_reason(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(RowError, match=r"row 7: .*no system role here"):
        encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))


def test_damaged_tools_name_the_row(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(RowError, match="row 7: its tools are not valid JSON"):
        encode([conversation(*TWO_TURNS, tools="[{")], tokenizer, Masking(512))


def test_a_tokenizer_without_template_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="chat"):
        encode([conversation(*TWO_TURNS)], tokenizer, Masking(512))


def test_no_rows_make_no_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encode([], tokenizer, Masking(512)) == []
