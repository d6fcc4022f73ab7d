"""The shipped demo data, read the way dataset_info.json describes it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
REGISTRY: dict[str, dict[str, Any]] = json.loads((DATA / "dataset_info.json").read_text("utf-8"))
# By name, because the registry also holds what users have uploaded.
JSON_SETS = ["identity", "alpaca_demo", "sharegpt_demo", "preference_demo"]
DEMO_SETS = [*JSON_SETS, "plain_text_demo"]
DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output"}
ROLES = {"human": "user", "gpt": "assistant"}
NEAR = 0.7  # share of common character trigrams above which two questions are the same one


@dataclass(frozen=True)
class Example:
    """One row in the shape that all formats share; `answers` is (chosen, rejected) in a ranked set."""

    system: str
    turns: tuple[tuple[str, str], ...]
    answers: tuple[str, ...] = ()

    def asked(self) -> str:
        said = [text for role, text in self.turns if role == "user"]
        return "\n".join(said or [text for _, text in self.turns])


def read_text(name: str) -> str:
    path: Path = DATA / REGISTRY[name]["file_name"]
    return path.read_text("utf-8")


def read_rows(name: str) -> list[Any]:
    text = read_text(name)
    rows: list[Any] = json.loads(text) if name in JSON_SETS else text.splitlines()
    return rows


def read_alpaca(row: dict[str, Any], columns: dict[str, str]) -> Example:
    prompt = "\n".join(filter(None, (row[columns["prompt"]], row[columns["query"]])))
    history = row[columns["history"]] if "history" in columns else []
    turns = []
    for question, answer in [*history, [prompt, row[columns["response"]]]]:
        turns += [("user", question), ("assistant", answer)]
    return Example(row[columns["system"]] if "system" in columns else "", tuple(turns))


def read_sharegpt(row: dict[str, Any], columns: dict[str, str]) -> Example:
    turns = tuple((ROLES[turn["from"]], turn["value"]) for turn in row[columns["messages"]])
    ranked = [row[columns[side]] for side in ("chosen", "rejected") if side in columns]
    assert all(ROLES[answer["from"]] == "assistant" for answer in ranked)
    return Example(row[columns["system"]], turns, tuple(answer["value"] for answer in ranked))


def read_examples(name: str) -> list[Example]:
    if name not in JSON_SETS:
        return [Example("", (("assistant", line),)) for line in read_rows(name)]
    read = read_sharegpt if REGISTRY[name].get("formatting") == "sharegpt" else read_alpaca
    columns = DEFAULT_COLUMNS | REGISTRY[name].get("columns", {})
    return [read(row, columns) for row in read_rows(name)]


def is_chinese(text: str) -> bool:
    return bool(re.search(r"[\u4e00-\u9fff]", text))


def cut_trigrams(text: str) -> set[str]:
    bare = re.sub(r"[\W_]+", "", text.casefold())
    return {bare[i : i + 3] for i in range(max(1, len(bare) - 2))}


def find_near_duplicates(texts: list[str]) -> Iterator[tuple[str, str]]:
    for (one, first), (two, second) in combinations([(text, cut_trigrams(text)) for text in texts], 2):
        if len(first & second) > NEAR * len(first | second):
            yield one, two


def test_only_the_preference_set_is_ranked() -> None:
    assert [name for name in DEMO_SETS if REGISTRY[name].get("ranking")] == ["preference_demo"]


@pytest.mark.parametrize("name", JSON_SETS)
def test_json_is_laid_out_for_reading_and_diffing(name: str) -> None:
    text = read_text(name)
    assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=2) + "\n"


@pytest.mark.parametrize("name", JSON_SETS)
def test_rows_have_the_same_fields_and_all_registered_ones(name: str) -> None:
    fields = {frozenset(row) for row in read_rows(name)}
    assert len(fields) == 1
    assert fields.pop() >= set(REGISTRY[name].get("columns", {}).values())


@pytest.mark.parametrize("name", DEMO_SETS)
def test_set_has_fifty_to_three_hundred_rows(name: str) -> None:
    assert 50 <= len(read_rows(name)) <= 300


@pytest.mark.parametrize("name", DEMO_SETS)
def test_no_text_is_empty_or_padded(name: str) -> None:
    for example in read_examples(name):
        for text in (*(text for _, text in example.turns), *example.answers):
            assert text
            assert text == text.strip()
        assert example.system == example.system.strip()


@pytest.mark.parametrize("name", DEMO_SETS)
def test_each_language_has_at_least_a_third(name: str) -> None:
    chinese = [is_chinese(example.asked()) for example in read_examples(name)]
    assert len(chinese) / 3 <= sum(chinese) <= len(chinese) * 2 / 3


@pytest.mark.parametrize("name", DEMO_SETS)
def test_no_question_is_asked_twice(name: str) -> None:
    assert list(find_near_duplicates([example.asked() for example in read_examples(name)])) == []


@pytest.mark.parametrize("name", JSON_SETS)
def test_roles_alternate_and_end_where_the_answer_stands(name: str) -> None:
    closing = "user" if REGISTRY[name].get("ranking") else "assistant"
    for example in read_examples(name):
        roles = [role for role, _ in example.turns]
        assert roles == [("user", "assistant")[i % 2] for i in range(len(roles))]
        assert roles[-1] == closing


@pytest.mark.parametrize("field", ["input", "system", "history"])
def test_alpaca_set_uses_every_optional_field(field: str) -> None:
    rows = read_rows("alpaca_demo")
    assert 0.2 <= sum(bool(row[field]) for row in rows) / len(rows) <= 0.6


def test_sharegpt_set_has_two_to_five_exchanges() -> None:
    examples = read_examples("sharegpt_demo")
    assert {len(example.turns) // 2 for example in examples} == {2, 3, 4, 5}
    assert {bool(example.system) for example in examples} == {True, False}


def test_chosen_and_rejected_differ() -> None:
    for example in read_examples("preference_demo"):
        chosen, rejected = example.answers
        assert cut_trigrams(chosen) != cut_trigrams(rejected)


def test_identity_fills_in_nothing_but_name_and_author() -> None:
    texts = [text for example in read_examples("identity") for _, text in example.turns]
    assert set(re.findall(r"\{\{\w+\}\}", "".join(texts))) == {"{{name}}", "{{author}}"}
    assert not re.search(r"[{}]", re.sub(r"\{\{(name|author)\}\}", "", "".join(texts)))


def test_identity_answers_say_who_it_is_in_most_rows() -> None:
    answers = [row["output"] for row in read_rows("identity")]
    assert sum("{{name}}" in answer for answer in answers) > len(answers) / 2
    assert sum("{{author}}" in answer for answer in answers) > len(answers) / 2


@pytest.mark.parametrize("name", DEMO_SETS[1:])
def test_other_sets_have_no_placeholders(name: str) -> None:
    assert "{{" not in read_text(name)
