import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.datasets.detect import SURE, propose, propose_for

Q, A, B = "What is it?", "It is this.", "No."
C = "Once upon a time a thing was made, and nobody knew what it was. "
CHAT = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
OTHER = [CHAT[0], {"role": "assistant", "content": "No."}]
CALL = '{"name": "f", "arguments": {}}'
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


# --- the columns of well-known public sets, rows in their style ------------------------------------------------

SETS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    # instructions
    "dolly": ({"instruction": Q, "context": C, "response": A, "category": "open_qa"},
              {"prompt": "instruction", "query": "context", "response": "response"}),
    "alpaca": ({"instruction": Q, "input": "", "output": A, "text": f"Below is an instruction. {Q} {A}"},
               {"prompt": "instruction", "query": "input", "response": "output"}),
    "python alpaca": ({"instruction": Q, "input": "", "output": A, "prompt": f"Below is an instruction. {Q} {A}"},
                      {"prompt": "instruction", "query": "input", "response": "output"}),
    "gpteacher": ({"instruction": Q, "input": C, "response": A},
                  {"prompt": "instruction", "query": "input", "response": "response"}),
    "evol code": ({"instruction": Q, "output": A}, {"prompt": "instruction", "response": "output"}),
    "magicoder": ({"lang": "python", "raw_index": 1, "index": 2, "seed": "x = 1", "problem": Q, "solution": A},
                  {"prompt": "problem", "response": "solution"}),
    "metamath": ({"type": "GSM_AnsAug", "query": Q, "original_question": Q, "response": A},
                 {"prompt": "query", "response": "response"}),
    "gsm8k": ({"question": Q, "answer": A}, {"prompt": "question", "response": "answer"}),
    "math": ({"problem": Q, "level": "Level 5", "type": "Algebra", "solution": A},
             {"prompt": "problem", "response": "solution"}),
    "openmath": ({"problem": Q, "generated_solution": A, "expected_answer": "4", "problem_source": "augmented"},
                 {"prompt": "problem", "response": "generated_solution"}),
    "open orca": ({"id": "niv.1", "system_prompt": "S", "question": Q, "response": A},
                  {"prompt": "question", "response": "response", "system": "system_prompt"}),
    "flan": ({"inputs": Q, "targets": A, "task": "cot"}, {"prompt": "inputs", "response": "targets"}),
    "cot collection": ({"source": Q, "target": A, "rationale": C, "task": "x", "type": "CoT"},
                       {"prompt": "source", "response": "target"}),
    "helpsteer": ({"prompt": Q, "response": A, "helpfulness": 4, "correctness": 4, "verbosity": 1},
                  {"prompt": "prompt", "response": "response"}),
    "old openai": ({"prompt": Q, "completion": A}, {"prompt": "prompt", "response": "completion"}),
    "tokens counted": ({"prompt": Q, "prompt_tokens": 5, "completion": A, "completion_tokens": 9},
                       {"prompt": "prompt", "response": "completion"}),
    "stack exchange": ({"question_id": 5, "question": Q, "answer_id": 6, "answer": A, "question_score": 3},
                       {"prompt": "question", "response": "answer"}),
    "counselling": ({"Context": Q, "Response": A}, {"prompt": "Context", "response": "Response"}),
    "medical reasoning": ({"Question": Q, "Complex_CoT": C, "Response": A},
                          {"prompt": "Question", "response": "Response"}),
    "doctor": ({"Description": "D", "Patient": Q, "Doctor": A}, {"prompt": "Patient", "response": "Doctor"}),
    "support tickets": ({"Ticket ID": "7", "User Message": Q, "Assistant Message": A},
                        {"prompt": "User Message", "response": "Assistant Message"}),
    "two letters": ({"Q": Q, "A": A}, {"prompt": "Q", "response": "A"}),
    "t5 csv": ({"input_text": Q, "target_text": A}, {"prompt": "input_text", "response": "target_text"}),
    "sql": ({"question": Q, "context": "CREATE TABLE t (a INT)", "answer": "SELECT 1"},
            {"prompt": "question", "query": "context", "response": "answer"}),
    "squad as csv": ({"id": "5", "title": "T", "context": C, "question": Q, "answer": A},
                     {"prompt": "question", "query": "context", "response": "answer"}),
    "chatglm": ({"prompt": Q, "response": A, "history": [[Q, A]]},
                {"prompt": "prompt", "response": "response", "history": "history"}),
    # Chinese
    "zhihu": ({"INSTRUCTION": Q, "RESPONSE": A, "SOURCE": "Zhihu", "METADATA": "{}"},
              {"prompt": "INSTRUCTION", "response": "RESPONSE"}),
    "firefly": ({"kind": "Couplet", "input": Q, "target": A}, {"prompt": "input", "response": "target"}),
    "chinese medical": ({"department": "心血管科", "title": "T", "ask": Q, "answer": A},
                        {"prompt": "ask", "response": "answer"}),
    "问题": ({"编号": "1", "问题": Q, "答案": A}, {"prompt": "问题", "response": "答案"}),
    "提问": ({"提问": Q, "回答": A, "来源": "网络"}, {"prompt": "提问", "response": "回答"}),
    "指令": ({"指令": Q, "输入": C, "输出": A, "系统提示": "S"},
             {"prompt": "指令", "query": "输入", "response": "输出", "system": "系统提示"}),
    "患者": ({"患者": Q, "医生": A}, {"prompt": "患者", "response": "医生"}),
    "摘要": ({"标题": "T", "正文": C, "摘要": A}, {"prompt": "正文", "response": "摘要"}),
    "译文": ({"原文": Q, "译文": A}, {"prompt": "原文", "response": "译文"}),
    "中文": ({"中文": Q, "英文": A}, {"prompt": "中文", "response": "英文"}),
    "优选": ({"问题": Q, "优选": A, "劣选": B}, {"prompt": "问题", "chosen": "优选", "rejected": "劣选"}),
    # documents and translations
    "cnn": ({"article": C, "highlights": A, "id": "f0"}, {"prompt": "article", "response": "highlights"}),
    "xsum": ({"document": C, "summary": A, "id": "5"}, {"prompt": "document", "response": "summary"}),
    "samsum": ({"id": "1", "dialogue": C, "summary": A}, {"prompt": "dialogue", "response": "summary"}),
    "billsum": ({"text": C, "summary": A, "title": "T"}, {"prompt": "text", "response": "summary"}),
    "advertisements": ({"content": C, "summary": A}, {"prompt": "content", "response": "summary"}),
    "tifu": ({"documents": C, "tldr": A, "title": "T"}, {"prompt": "documents", "response": "tldr"}),
    "wmt": ({"de": Q, "en": A}, {"prompt": "de", "response": "en"}),
    "src and tgt": ({"src": Q, "tgt": A, "src_lang": "en", "tgt_lang": "de"}, {"prompt": "src", "response": "tgt"}),
    # text to go on with
    "wikipedia": ({"id": "1", "url": "https://x", "title": "T", "text": C}, {"prompt": "text"}),
    "fineweb": ({"text": C * 20, "id": "u", "dump": "CC-MAIN-2013-20", "url": "http://x", "file_path": "s3://x",
                 "language": "en", "language_score": 0.9, "token_count": 5}, {"prompt": "text"}),
    "pile": ({"text": C, "meta": {"pile_set_name": "Github"}}, {"prompt": "text"}),
    "stack": ({"hexsha": "8f", "size": 5, "ext": "py", "lang": "Python", "max_stars_repo_path": "a/b.py",
               "content": C * 20}, {"prompt": "content"}),
    # conversations
    "ultrachat": ({"prompt": Q, "prompt_id": "e", "messages": CHAT}, {"messages": "messages"}),
    "no robots": ({"prompt": Q, "prompt_id": "a", "messages": CHAT, "category": "Rewrite"}, {"messages": "messages"}),
    "openhermes": ({"id": None, "conversations": SHAREGPT, "source": "airoboros", "category": None, "idx": None,
                    "system_prompt": None, "title": None, "custom_instruction": None},
                   {"messages": "conversations", "system": "system_prompt"}),
    "slim orca": ({"conversations": [{**turn, "weight": 1.0} for turn in SHAREGPT]}, {"messages": "conversations"}),
    "toolace": ({"system": "S", "conversations": [{"from": "user", "value": Q}, {"from": "assistant", "value": A}]},
                {"messages": "conversations", "system": "system"}),
    "lmsys": ({"conversation_id": "3", "model": "vicuna", "conversation": CHAT, "turn": 1, "language": "English",
               "openai_moderation": [{"flagged": False}], "redacted": False}, {"messages": "conversation"}),
    "numina": ({"source": "amc", "problem": Q, "solution": A, "messages": CHAT}, {"messages": "messages"}),
    "tulu": ({"id": "1", "messages": CHAT, "source": "x"}, {"messages": "messages"}),
    "capital roles": ({"messages": [{"role": "User", "content": Q}, {"role": "Chatbot", "content": A}]},
                      {"messages": "messages"}),
    "sharegpt items": ({"id": "1", "items": SHAREGPT}, {"messages": "items"}),
    "glaive as demo": ({"conversations": [SHAREGPT[0], {"from": "function_call", "value": CALL},
                                          {"from": "observation", "value": "1"}, SHAREGPT[1]], "tools": "[]"},
                       {"messages": "conversations", "tools": "tools"}),
    "openai tools": ({"messages": CHAT, "tools": [{"type": "function", "function": {"name": "f"}}],
                      "parallel_tool_calls": False}, {"messages": "messages", "tools": "tools"}),
    "anthropic": ({"system": "S", "messages": CHAT}, {"messages": "messages", "system": "system"}),
    # preferences
    "hh-rlhf with prompt": ({"prompt": Q, "chosen": A, "rejected": B},
                            {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    "ultrafeedback": ({"prompt": Q, "prompt_id": "a", "chosen": CHAT, "rejected": OTHER, "messages": CHAT,
                       "score_chosen": 8.0, "score_rejected": 4.0}, {"chosen": "chosen", "rejected": "rejected"}),
    "orca pairs": ({"system": "S", "question": Q, "chosen": A, "rejected": B},
                   {"prompt": "question", "chosen": "chosen", "rejected": "rejected", "system": "system"}),
    "distilabel orca": ({"system": "", "input": Q, "chosen": A, "rejected": B, "generations": [A, B],
                         "status": "tie", "original_chosen": A},
                        {"prompt": "input", "chosen": "chosen", "rejected": "rejected", "system": "system"}),
    "dpo mix": ({"dataset": "x", "chosen": CHAT, "rejected": OTHER, "chosen_rating": 5.0},
                {"chosen": "chosen", "rejected": "rejected"}),
    "reward bench": ({"prompt": Q, "chosen": A, "chosen_model": "m", "rejected": B, "rejected_model": "n", "id": 5},
                     {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}),
    "stack exchange pairs": ({"qid": 5, "question": Q, "date": "2020", "response_j": A, "response_k": B},
                             {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}),
    "long names": ({"prompt": Q, "chosen_response": A, "rejected_response": B},
                   {"prompt": "prompt", "chosen": "chosen_response", "rejected": "rejected_response"}),
    # judged answers
    "kto": ({"prompt": Q, "completion": A, "label": True},
            {"prompt": "prompt", "response": "completion", "kto_tag": "label"}),
    "kto as csv": ({"prompt": Q, "completion": A, "label": "True"},
                   {"prompt": "prompt", "response": "completion", "kto_tag": "label"}),
    "kto messages": ({"messages": CHAT, "kto_tag": False}, {"messages": "messages", "kto_tag": "kto_tag"}),
}  # fmt: skip

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "squad": ({"id": "5", "title": "T", "context": C, "question": Q, "answers": {"text": [A], "answer_start": [1]}},
              "'answers' may be the answer"),
    "trivia": ({"question": Q, "answer": {"value": A}, "search_results": {}}, "'answer' may be the answer"),
    "boolq": ({"question": Q, "passage": C, "answer": True}, "does not hold text"),
    "multiple choice": ({"question": Q, "choices": ["a", "b"], "answer": 2}, "does not hold text"),
    "commonsense": ({"question": Q, "choices": {"label": ["A"], "text": [A]}, "answerKey": "A"}, "a guess"),
    "imdb": ({"text": C, "label": 1}, "does not hold text"),
    "reviews": ({"sentence": Q, "label": "positive"}, "a guess"),
    "messages of a tree": ({"message_id": "6a", "parent_id": None, "text": Q, "role": "prompter", "lang": "en"},
                           "single turns"),
    "hh-rlhf": ({"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: {B}"},
                "no column holds the prompt"),
    "arena": ({"prompt": Q, "response_a": A, "response_b": B, "winner_model_a": 1}, "none of the known shapes"),
    "safe rlhf": ({"prompt": Q, "response_0": A, "response_1": B, "better_response_id": 1}, "none of the known shapes"),
    "shp": ({"history": C, "human_ref_A": A, "human_ref_B": B, "labels": 1}, "does not hold text"),
    "nectar": ({"prompt": Q, "answers": [{"answer": A, "rank": 1.0}]}, "'answers' may be the answer"),
    "ultrafeedback as made": ({"source": "x", "instruction": Q, "models": ["m"], "completions": [{"response": A}]},
                              "'completions' may be the answer"),
    "lima": ({"conversations": [Q, A], "source": "x"}, "'conversations' may be a conversation"),
    "daily dialog": ({"dialog": [Q, A], "act": [1, 2], "emotion": [0, 0]}, "'dialog' may be a conversation"),
    "capybara": ({"source": "x", "conversation": [{"input": Q, "output": A}]}, "'conversation' may be a conversation"),
    "sharegpt 90k": ({"conversation_id": "1", "category": "x", "conversation": [{"human": Q, "assistant": A}]},
                     "'conversation' may be a conversation"),
    "gemini": ({"contents": [{"role": "user", "parts": [{"text": Q}]}]}, "'contents' may be a conversation"),
    "glaive": ({"system": "S", "chat": f"USER: {Q}\n\nASSISTANT: {A}"}, "'chat' may be a conversation"),
    "opus": ({"translation": {"de": Q, "en": A}}, "none of the known shapes"),
    "turns on both sides": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "does not hold text"),
    "no header": ({"Who are you and what can you do?": Q, "I am a small model and can chat.": A}, "no header"),
    "strangers": ({"foo": Q, "bar": A, "baz": Q}, "none of the known shapes"),
    "answers without a prompt": ({"chosen": A, "rejected": Q}, "no column holds the prompt"),
    "a silent assistant": ({"messages": [CHAT[0], {"role": "assistant", "content": None}]},
                           "9 of the first 9 rows do not fit"),
    "nothing": ({}, "there are none"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_well_known_sets_are_mapped(name: str) -> None:
    record, columns = SETS[name]
    proposal = propose([record] * 9)
    assert {role: column for role, column in proposal.columns.items() if column is not None} == columns
    assert proposal.confidence >= SURE
    assert all(repr(column) in proposal.reason for role, column in columns.items() if role in ("response", "messages"))
    assert proposal.ranking == ("chosen" in columns)


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_tell_is_not_asserted(name: str) -> None:
    record, said = REFUSED[name]
    proposal = propose([record] * 9)
    assert proposal.confidence < SURE
    assert said in proposal.reason


def test_roles_are_known_in_any_case() -> None:
    record = {"messages": [{"role": "User", "content": Q}, {"role": "Chatbot", "content": A}]}
    proposal = propose([record])
    assert (proposal.tags["user_tag"], proposal.tags["assistant_tag"]) == ("User", "Chatbot")


def test_roles_with_other_names_are_found() -> None:
    chat = [{"speaker": "customer", "text": Q}, {"speaker": "bot", "text": A}]
    proposal = propose([{"dialog": chat}] * 9)
    assert proposal.formatting == "sharegpt"
    assert proposal.tags["role_tag"] == "speaker"
    assert (proposal.tags["user_tag"], proposal.tags["assistant_tag"]) == ("customer", "bot")
    assert proposal.confidence > 0.9


def test_rows_that_do_not_fit_lower_the_confidence() -> None:
    good, bad = {"question": Q, "answer": A}, {"question": Q, "answer": 7}
    proposal = propose([good] * 8 + [bad] * 2)
    assert proposal.confidence == pytest.approx(0.9 * 0.8)
    assert "2 of the first 10 rows do not fit (row 9: 'answer' must be text, found the number 7)" in proposal.reason


@pytest.mark.parametrize("bad", [{"question": Q, "answer": ""}, {"question": Q, "answer": None}, {"question": Q}])
def test_missing_texts_say_nothing_about_the_columns(bad: dict[str, Any]) -> None:
    proposal = propose([{"question": Q, "answer": A}] + [bad] * 3)
    assert proposal.confidence == 0.9
    assert "3 of the first 4 rows do not fit" in proposal.reason


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


def test_sheets_that_are_not_read_are_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["question", "answer"])
    book.active.append(["Who?", "Fern."])
    for title, cell in (("notes", "read me"), ("empty", None)):
        sheet = book.create_sheet(title)
        if cell:
            sheet.append([cell])
    book.save(tmp_path / "book.xlsx")
    proposal = propose_for(tmp_path / "book.xlsx")
    assert proposal.columns["response"] == "answer"
    assert proposal.reason.endswith("only the first sheet is read, not notes")
