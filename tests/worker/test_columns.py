"""The tokens of pairs, judged answers and documents, against what is written out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from studio.datasets.formats import Conversation, Feedback, Message, Preference, Row, Text
from studio.datasets.masking import Masking
from studio.worker.columns import COLUMNS, ROW
from studio.worker.encode import IGNORED, explain
from studio.worker.prepared import Figures

PROMPT = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
QUESTION = (Message("user", "Who are you?"),)
PAIR = Preference(QUESTION, Message("assistant", "I am Sprout."), Message("assistant", "I am nobody."))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizer_dir)


def columns(name: str, tokenizer: PreTrainedTokenizerBase, *rows: Row, **masking: Any) -> list[dict[str, Any]]:
    """What the rows become, without those that teach nothing."""
    kept = kept_of(name, tokenizer, rows, Figures(), **masking)
    names = [key for key in COLUMNS[name].schema.names if key != ROW]
    return [{key: getattr(row, key) for key in names} for row in kept]


def kept_of(
    name: str, tokenizer: PreTrainedTokenizerBase, rows: tuple[Row, ...], figures: Figures, **masking: Any
) -> Iterator[Any]:
    encoded = COLUMNS[name].encode(enumerate(rows, 1), tokenizer, Masking(**{"cutoff_len": 256, **masking}))
    return filter(figures.keep, encoded)


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_pair_is_a_prompt_and_two_answers_with_their_end_of_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    assert columns("pair", tokenizer, PAIR) == [
        {
            "prompt_ids": ids(tokenizer, PROMPT),
            "chosen_ids": ids(tokenizer, "I am Sprout.<|im_end|>"),
            "rejected_ids": ids(tokenizer, "I am nobody.<|im_end|>"),
        }
    ]


def test_of_a_long_conversation_only_the_last_answers_are_compared(tokenizer: PreTrainedTokenizerBase) -> None:
    talk = (*QUESTION, Message("assistant", "I am Sprout."), *QUESTION)
    [row] = columns("pair", tokenizer, Preference(talk, PAIR.chosen, PAIR.rejected), default_system="Be brief.")
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert row["prompt_ids"] == ids(tokenizer, f"{system}{PROMPT}I am Sprout.<|im_end|>\n{PROMPT}")
    assert row["chosen_ids"] == ids(tokenizer, "I am Sprout.<|im_end|>")


def test_judged_answers_keep_their_judgement_and_a_pair_is_two_of_them(tokenizer: PreTrainedTokenizerBase) -> None:
    bad = Feedback((*QUESTION, Message("assistant", "I am nobody.")), good=False)
    prompt = ids(tokenizer, PROMPT)
    answers = [ids(tokenizer, text) for text in ("I am nobody.<|im_end|>", "I am Sprout.<|im_end|>")]
    assert columns("judged", tokenizer, bad, PAIR) == [
        {"prompt_ids": prompt, "completion_ids": answers[0], "label": False},
        {"prompt_ids": prompt, "completion_ids": answers[1], "label": True},
        {"prompt_ids": prompt, "completion_ids": answers[0], "label": False},
    ]


def test_a_long_prompt_gives_way_before_its_answers_do(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, better, worse = (
        ids(tokenizer, text) for text in (PROMPT, "I am Sprout.<|im_end|>", "I am nobody.<|im_end|>")
    )
    longest = max(len(better), len(worse))
    for cutoff_len in (len(prompt) + longest, len(prompt) + longest - 3, 2 * longest):
        [row] = columns("pair", tokenizer, PAIR, cutoff_len=cutoff_len)
        assert row == {
            "prompt_ids": prompt[len(prompt) + longest - cutoff_len :],
            "chosen_ids": better,
            "rejected_ids": worse,
        }
    [row] = columns("pair", tokenizer, PAIR, cutoff_len=10)  # half of the room is the prompt's
    assert row == {"prompt_ids": prompt[-5:], "chosen_ids": better[:5], "rejected_ids": worse[:5]}
    good, bad = columns("judged", tokenizer, PAIR, cutoff_len=10)
    assert (good["prompt_ids"], good["completion_ids"]) == (prompt[-5:], better[:5])
    assert (bad["prompt_ids"], bad["completion_ids"]) == (prompt[-5:], worse[:5])


def test_what_is_kept_is_what_the_page_shows(tokenizer: PreTrainedTokenizerBase) -> None:
    for cutoff_len in (10, 20, 256):
        [row] = columns("pair", tokenizer, PAIR, cutoff_len=cutoff_len)
        shown = explain(1, PAIR, tokenizer, Masking(cutoff_len)).segments
        for segment, answer in zip(shown, (row["chosen_ids"], row["rejected_ids"]), strict=True):
            kept = [piece for piece in segment.pieces if not piece.cut]
            assert [piece.id for piece in kept if piece.trained] == answer
            assert [piece.id for piece in kept][: len(row["prompt_ids"])] == row["prompt_ids"]


def test_cut_pairs_and_those_without_a_difference_are_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    same = Preference(QUESTION, PAIR.chosen, PAIR.chosen)
    alike_at_first = Preference(QUESTION, Message("assistant", "I am A."), Message("assistant", "I am B."))
    for cutoff_len, expected in ((256, (2, 0, 1)), (12, (2, 2, 1)), (4, (0, 0, 3))):
        figures = Figures()
        list(kept_of("pair", tokenizer, (PAIR, same, alike_at_first), figures, cutoff_len=cutoff_len))
        assert (figures.rows, figures.cut, figures.alike) == expected


def test_text_is_carried_on_in_further_rows_and_none_of_it_is_lost(tokenizer: PreTrainedTokenizerBase) -> None:
    whole = ids(tokenizer, "I am Sprout, made by Ada. " * 5 + "<|im_end|>")
    rows = columns("document", tokenizer, Text("I am Sprout, made by Ada. " * 5), Text(""), cutoff_len=16)
    assert [token for row in rows for token in row["input_ids"]] == whole
    assert all(row["labels"] == [IGNORED, *row["input_ids"][1:]] for row in rows)
    assert {len(row["input_ids"]) for row in rows[:-1]} == {16}


def test_a_conversation_as_text_is_learnt_with_its_prompts(tokenizer: PreTrainedTokenizerBase) -> None:
    [row] = columns("document", tokenizer, Conversation((*QUESTION, PAIR.chosen)))
    assert row["input_ids"] == ids(tokenizer, f"{PROMPT}I am Sprout.<|im_end|>\n")
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
