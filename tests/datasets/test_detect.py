import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.detect import SURE, propose, propose_for

Q, A = "What is it?", "It is this."
CHAT = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
OTHER = [CHAT[0], {"role": "assistant", "content": "No."}]
SHAREGPT = [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]


def mapped(record: dict[str, Any]) -> dict[str, str | None]:
    return {role: column for role, column in propose([record] * 9).columns.items() if column is not None}


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        # the names that mislead
        ({"prompt_id": "a1", "prompt": Q, "completion": A}, {"prompt": "prompt", "response": "completion"}),
        ({"prompt_id": "a1", "prompt": Q, "completion": A, "context": Q},
         {"prompt": "prompt", "query": "context", "response": "completion"}),
        ({"question": Q, "answer": A, "context": Q}, {"prompt": "question", "query": "context", "response": "answer"}),
        ({"source": Q, "target": A}, {"prompt": "source", "response": "target"}),
        ({"source": "web", "prompt": Q, "response": A}, {"prompt": "prompt", "response": "response"}),
        ({"dialogue": Q, "summary": A}, {"prompt": "dialogue", "response": "summary"}),
        ({"id": "7", "article": Q, "highlights": A}, {"prompt": "article", "response": "highlights"}),
        ({"title": "T", "body": Q, "summary": A}, {"prompt": "body", "response": "summary"}),
        ({"english": Q, "german": A}, {"prompt": "english", "response": "german"}),
        ({"input": Q, "output": A}, {"prompt": "input", "response": "output"}),
        ({"User Prompt": Q, "Answer": A}, {"prompt": "User Prompt", "response": "Answer"}),
        # shapes
        ({"instruction": Q, "input": "", "output": A, "system": "S", "history": [[Q, A]]},
         {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}),
        ({"text": Q}, {"prompt": "text"}),
        ({"text": Q, "timestamp": "2020", "url": "http://x"}, {"prompt": "text"}),
        ({"conversations": SHAREGPT, "tools": "[]"}, {"messages": "conversations", "tools": "tools"}),
        ({"conversations": json.dumps(CHAT)}, {"messages": "conversations"}),
        ({"messages": CHAT, "tools": [{"type": "function"}]}, {"messages": "messages", "tools": "tools"}),
        ({"prompt": Q, "prompt_id": "1", "messages": CHAT}, {"messages": "messages"}),
        ({"prompt": Q, "chosen": A, "rejected": "No."},
         {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
        ({"prompt": Q, "chosen": CHAT, "rejected": OTHER}, {"chosen": "chosen", "rejected": "rejected"}),
        ({"prompt": Q, "messages": CHAT, "chosen": CHAT, "rejected": OTHER},
         {"chosen": "chosen", "rejected": "rejected"}),
        ({"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": OTHER[1:]},
         {"messages": "prompt", "chosen": "chosen", "rejected": "rejected"}),
        ({"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "No."}},
         {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}),
        ({"prompt": Q, "completion": A, "label": True},
         {"prompt": "prompt", "response": "completion", "kto_tag": "label"}),
        ({"messages": CHAT, "label": False}, {"messages": "messages", "kto_tag": "label"}),
    ],
)  # fmt: skip
def test_what_columns_mean(record: dict[str, Any], columns: dict[str, str]) -> None:
    proposal = propose([record] * 9)
    assert mapped(record) == columns
    assert proposal.confidence >= SURE
    assert proposal.reason
    assert proposal.ranking == ("chosen" in columns)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"context": Q, "question": Q, "answers": {"text": [A], "answer_start": [1]}}, "'answers' may be the answer"),
        ({"sentence": Q, "label": 1}, "does not hold text"),
        ({"question": Q, "choices": ["a"], "answer": 2}, "does not hold text"),
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "does not hold text"),
        ({"sentence": Q, "label": "positive"}, "a guess"),
        ({"foo": Q, "bar": A, "baz": Q}, "none of the known shapes"),
        ({"chosen": A, "rejected": Q}, "no column holds the prompt"),
        ({"messages": [CHAT[0], {"role": "assistant", "content": None}]}, "9 of the first 9 rows do not fit"),
        ({}, "there are none"),
    ],
)
def test_what_nobody_can_tell_is_not_asserted(record: dict[str, Any], said: str) -> None:
    proposal = propose([record] * 9)
    assert proposal.confidence < SURE
    assert said in proposal.reason


def test_roles_with_other_names_are_found() -> None:
    chat = [{"speaker": "customer", "text": Q}, {"speaker": "bot", "text": A}]
    proposal = propose([{"dialog": chat}] * 9)
    assert proposal.formatting == "sharegpt"
    assert proposal.tags["role_tag"] == "speaker"
    assert (proposal.tags["user_tag"], proposal.tags["assistant_tag"]) == ("customer", "bot")
    assert proposal.confidence > 0.9


def test_rows_that_do_not_fit_lower_the_confidence() -> None:
    good, bad = {"question": Q, "answer": A}, {"question": Q, "answer": ""}
    proposal = propose([good] * 8 + [bad] * 2)
    assert proposal.confidence == pytest.approx(0.9 * 0.8)
    assert "2 of the first 10 rows do not fit (row 9: 'answer' must not be empty)" in proposal.reason


@pytest.mark.parametrize(
    ("name", "formatting", "roles"),
    [
        ("alpaca_en_demo.json", "alpaca", {"prompt", "query", "response"}),
        ("alpaca_zh_demo.json", "alpaca", {"prompt", "query", "response"}),
        ("identity.json", "alpaca", {"prompt", "query", "response"}),
        ("dpo_en_demo.json", "sharegpt", {"messages", "chosen", "rejected"}),
        ("glaive_toolcall_en_demo.json", "sharegpt", {"messages", "tools"}),
        ("kto_en_demo.json", "openai", {"messages", "kto_tag"}),
        ("wiki_demo.txt", "alpaca", {"prompt", "response"}),
    ],
)
def test_real_files(name: str, formatting: str, roles: set[str], public_data: Path) -> None:
    proposal = propose_for(public_data / name)
    assert (proposal.formatting, set(proposal.columns)) == (formatting, roles)
    assert proposal.confidence >= 0.9


NAMES = st.text(max_size=8) | st.sampled_from(["messages", "chosen", "rejected", "prompt", "label", "text", "answer"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(json.dumps(CHAT)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3) | st.just(CHAT),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=4))
def test_any_records_get_a_proposal(records: list[dict[str, Any]]) -> None:
    proposal = propose(records)
    assert 0 <= proposal.confidence <= 1
    assert proposal.reason
    assert proposal.confidence == 0 or proposal.entry("n", "n.json").file_name == "n.json"


def test_a_sample_of_huge_rows_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    row = json.dumps({"question": Q, "answer": "x" * 3_000_000})
    path.write_text(f"{row}\n{row}\nbroken, but too far down to matter here")
    assert propose_for(path).confidence == 0.9
