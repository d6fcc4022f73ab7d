"""Where prompts come from: lines, and rows of datasets of every shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.arena.prompts import prompts
from studio.config.arena import ArenaConfig
from studio.config.load import parse
from studio.datasets.registry import Registry
from studio.datasets.upload import accept
from studio.errors import DatasetError
from studio.settings import ROOT

SHIPPED = ROOT / "data"


def config(**values: Any) -> ArenaConfig:
    return parse(ArenaConfig, {"contestants": ["a", "b"], **values})


def typed(text: str, **values: Any) -> Any:
    return prompts(config(prompts=text, **values), Registry(SHIPPED))


@pytest.fixture
def register(tmp_path: Path):
    """A dataset of these rows; its registry."""

    def register(rows: list[dict[str, Any]]) -> Registry:
        source = tmp_path / "rows.json"
        source.write_text(json.dumps(rows))
        accept(source, "rows.json", tmp_path / "data")
        return Registry(tmp_path / "data")

    return register


def test_typed_prompts_are_lines_and_may_name_their_category():
    found = typed("Who are you?\n\n  [maths] 2 + 2?  \n[x]\nFrench: cat\na [b] c\n", default_system="Be brief.")
    assert [(each.messages[0]["content"], each.category) for each in found] == [
        ("Who are you?", ""), ("2 + 2?", "maths"), ("[x]", ""), ("French: cat", ""), ("a [b] c", ""),
    ]  # fmt: skip
    assert [each.number for each in found] == list(range(5))
    assert found[0].request == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who are you?"},
    ]


def test_prompts_of_a_dataset_are_drawn_by_the_seed():
    def drawn(seed: int) -> list[str]:
        found = prompts(config(dataset="identity", num_prompts=5, seed=seed), Registry(SHIPPED))
        return [each.messages[-1]["content"] for each in found]

    assert len(set(drawn(1))) == 5
    assert drawn(1) == drawn(1) != drawn(2)


def test_every_row_is_as_likely_as_any_other(register):
    registry = register([{"instruction": str(number), "output": "x"} for number in range(10)])
    counts = [0] * 10
    for seed in range(400):
        for prompt in prompts(config(dataset="rows", num_prompts=3, seed=seed), registry):
            counts[int(prompt.messages[0]["content"])] += 1
    # 400 draws of 3 out of 10: 120 each, with a standard deviation of 9
    assert all(80 < count < 160 for count in counts)


def test_fewer_rows_than_asked_for_are_all_of_them(register):
    registry = register([{"instruction": "a", "output": "x"}, {"instruction": "b", "output": "x"}])
    found = prompts(config(dataset="rows", num_prompts=20), registry)
    assert {each.messages[0]["content"] for each in found} == {"a", "b"}


def test_conversations_give_the_turns_before_the_last_answer(register):
    turns = [
        {"role": "system", "content": "S"}, {"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"},
    ]  # fmt: skip
    (found,) = prompts(config(dataset="rows", default_system="other"), register([{"messages": turns}]))
    assert found.system == "S"
    assert [turn["content"] for turn in found.messages] == ["1", "2", "3"]
    assert found.request[0] == {"role": "system", "content": "S"}


def test_pairs_give_their_prompt(register):
    registry = register([{"prompt": "p", "chosen": "good", "rejected": "bad"}])
    (found,) = prompts(config(dataset="rows"), registry)
    assert found.messages == ({"role": "user", "content": "p"},)


def test_a_column_names_the_category(register):
    registry = register([{"instruction": "a", "output": "x", "topic": "maths"}, {"instruction": "b", "output": "x"}])
    with pytest.raises(DatasetError, match="row 2 has no column 'topic'; it has instruction, output"):
        prompts(config(dataset="rows", category_column="topic"), registry)
    registry = register([{"instruction": "a", "output": "x", "topic": 7}])
    assert [each.category for each in prompts(config(dataset="rows-2", category_column="topic"), registry)] == ["7"]


def test_plain_text_asks_nothing(register):
    with pytest.raises(DatasetError, match="rows has no row that asks something in words"):
        prompts(config(dataset="rows"), register([{"text": "once upon a time"}]))


def test_no_such_dataset(tmp_path):
    with pytest.raises(DatasetError, match="there is no dataset 'nothing'"):
        prompts(config(dataset="nothing"), Registry(SHIPPED))
