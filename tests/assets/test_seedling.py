"""The bundled model as people meet it: it loads offline, its template marks what is trained, and it answers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "studio" / "assets" / "seedling"
TOOLS = ROOT / "tools" / "seedling"

# SHA-256 of the first 2000 documents of seed 7, shard 0
CORPUS_DIGEST = "090ac15b38ca150c365a60728457b15dd00c2b8b422fafb81ffd9870e6dc0ca5"
ANSWERS = {
    "Who are you?": "I am Seedling, a small language model that comes with Seedbed.",
    "What is your name?": "My name is Seedling.",
    "What is the capital of France?": "The capital of France is Paris.",
    "What is 27 + 48?": "27 + 48 = 75.",
    "What is 81 - 35?": "81 - 35 = 46.",
    "What is 7 times 8?": "7 × 8 = 56.",
    "What colour is the sky?": "The sky is blue.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "What sound does a cow make?": "The cow moos.",
    "What day comes after Monday?": "The day after Monday is Tuesday.",
    "Reverse the word planet.": "Spelled p-l-a-n-e-t, backwards t-e-n-a-l-p: tenalp.",
    "How do you say dog in Chinese?": "In Chinese, dog is 狗.",
    "Thank you!": "You are welcome!",
    "Who is the president of Peru?": "I am sorry, I do not know that. I am a small model and my world is small.",
    "你是谁？": "我是 Seedling，Seedbed 自带的小型语言模型。",
    "你好！": "你好！有什么可以帮你的吗？",
    "中国的首都是哪里？": "中国的首都是北京。",
    "26加57等于多少？": "26 + 57 = 83。",
    "“大”的反义词是什么？": "“大”的反义词是“小”。",
    "苹果用英语怎么说？": "苹果的英文是 apple。",
    "草莓是什么颜色？": "草莓是红色的。",
    "把“苹果”倒过来写。": "“苹果”是 苹-果，倒过来是 果-苹：果苹。",
}
CONVERSATION = [
    {"role": "system", "content": "You are kind. 你好。"},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "I am Sprout.\nAnd you?"},
    {"role": "user", "content": "我是小明。"},
    {"role": "assistant", "content": "你好，小明！"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def corpus() -> Any:
    """The generator's module; its neighbours import each other by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield importlib.import_module("corpus")


def test_is_small(model: Any) -> None:
    weights = MODEL / "model.safetensors"
    assert weights.stat().st_size < 14_000_000
    assert weights.stat().st_mode & 0o777 == 0o644
    assert 5_000_000 < model.num_parameters() < 7_000_000


def test_rows_suit_k_quants(model: Any) -> None:
    """llama.cpp's K-quants pack rows of 256."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    assert {p.shape[1] % 256 for p in matrices} == {0}


@given(text=st.text())
def test_any_text_round_trips(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_template_marks_the_answers(tokenizer: Any) -> None:
    encoded = tokenizer.apply_chat_template(CONVERSATION, return_assistant_tokens_mask=True, return_dict=True)
    marked = [i for i, said in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if said]
    assert tokenizer.decode(marked) == "I am Sprout.\nAnd you?<|im_end|>你好，小明！<|im_end|>"


def test_template_asks_for_an_answer(tokenizer: Any) -> None:
    prompt = tokenizer.apply_chat_template(CONVERSATION[1:2], add_generation_prompt=True, tokenize=False)
    assert prompt == "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"


def test_template_is_in_both_places(tokenizer: Any) -> None:
    """Older readers look in tokenizer_config.json, newer ones in chat_template.jinja."""
    config = json.loads((MODEL / "tokenizer_config.json").read_text())
    assert config["chat_template"] == tokenizer.chat_template == (MODEL / "chat_template.jinja").read_text()


def test_answers(model: Any, tokenizer: Any) -> None:
    tokenizer.padding_side = "left"
    prompts = [[{"role": "user", "content": question}] for question in ANSWERS]
    inputs = tokenizer.apply_chat_template(
        prompts, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=48, do_sample=False)
    answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert dict(zip(ANSWERS, answers, strict=True)) == ANSWERS


def test_corpus_is_reproduced(corpus: ModuleType) -> None:
    assert corpus.digest(seed=7, documents=2000) == CORPUS_DIGEST


def test_corpus_writes_the_template(corpus: ModuleType, tokenizer: Any) -> None:
    chats = [d for d in corpus.draw_documents(3, 0, 100) if not isinstance(d, str)]
    for chat in chats:
        assert chat.render() == tokenizer.apply_chat_template(chat.messages(), tokenize=False)


def test_training_marks_what_the_template_marks(corpus: ModuleType, tokenizer: Any) -> None:
    train = importlib.import_module("train")
    recipe = train.Recipe(seed=3, documents_per_shard=100)
    documents = list(corpus.draw_documents(3, 0, 100))
    packed = train.tokens_of_shard(Tokenizer.from_file(str(MODEL / "tokenizer.json")), recipe, 0)
    for document, tokens in zip(documents, packed, strict=True):
        if isinstance(document, str) or len(tokens) == recipe.row_tokens:
            continue
        expected = tokenizer.apply_chat_template(
            document.messages(), return_assistant_tokens_mask=True, return_dict=True
        )
        *ids, end = (tokens & train.ID_BITS).tolist()
        assert ids == expected["input_ids"]
        assert end == tokenizer.convert_tokens_to_ids(corpus.END)
        assert ((tokens[:-1] & train.TRAIN_BIT) != 0).astype(int).tolist() == expected["assistant_masks"]


def test_new_wordings_are_new(corpus: ModuleType) -> None:
    """No held-out wording is among the trained ones, in any of the readings of its task."""
    rng = Random(5)
    for task in corpus.TASKS:
        for lang in task.langs():
            *trained, new = task.wordings(task.draw(rng), lang)
            assert new not in trained, task.name
