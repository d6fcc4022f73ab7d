"""What a training with a named template leaves: a tokenizer that writes, and ends, chats as they were learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig

from studio import models, templates
from studio.errors import ModelError
from studio.worker import outputs
from studio.worker import tokenizer as tokenizers
from studio.worker.merging import companions
from tests.worker.conftest import Train

QUICK = {"max_steps": 1, "save_steps": 0}
ASKED = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def base_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model without a chat template, whose tokenizer ends texts with <|endoftext|>."""
    folder = tmp_path / "base_model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|endoftext|>"}))
    GenerationConfig(eos_token_id=0).save_pretrained(folder)
    return folder


def ends(folder: Path) -> tuple[Any, Any]:
    """What ends an answer: for the tokenizer, and for generation."""
    generation = json.loads((folder / "generation_config.json").read_text())
    return AutoTokenizer.from_pretrained(folder).eos_token, generation["eos_token_id"]


def prompt(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)


def test_an_adapter_brings_template_mode_and_end(train: Train, base_model: Path, tmp_path: Path) -> None:
    run = train(model_name_or_path=str(base_model), template="qwen3", enable_thinking=False, **QUICK)
    adapter = run.run_dir / "adapter"
    text = (adapter / "chat_template.jinja").read_text()
    assert text == templates.with_thinking(templates.text("qwen3"), False)
    assert prompt(adapter) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert ends(adapter) == ("<|im_end|>", [2, 0])
    assert "spells them in pieces" not in run.notes
    merged = tmp_path / "merged"
    merged.mkdir()
    companions.copy(base_model, adapter, merged, changes={}, template=None)
    assert (prompt(merged), ends(merged)) == (prompt(adapter), ends(adapter))


def test_a_whole_model_brings_them_too(train: Train, base_model: Path) -> None:
    run = train(model_name_or_path=str(base_model), template="smollm", finetuning_type="full", **QUICK)
    model = run.run_dir / "model"
    assert models.chat_template(model) == templates.text("chatml")
    assert ends(model) == ("<|im_end|>", [2, 0])


def test_the_models_own_template_stays_as_it_is(train: Train, tiny_model: Path) -> None:
    adapter = train(**QUICK).run_dir / "adapter"
    assert models.chat_template(adapter) == models.chat_template(tiny_model)
    assert (adapter / "tokenizer_config.json").read_bytes() == (tiny_model / "tokenizer_config.json").read_bytes()
    assert not (adapter / "generation_config.json").exists()


def test_another_template_is_the_only_one(base_model: Path, tmp_path: Path) -> None:
    """Also for tools that look into tokenizer_config.json first."""
    config = json.loads((base_model / "tokenizer_config.json").read_text())
    (base_model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": "{{ messages }}"}))
    for template in (None, "alpaca"):
        folder = tmp_path / str(template)
        folder.mkdir()
        outputs.copy_tokenizer(base_model, folder, tokenizers.load(base_model, False, template))
        assert models.chat_template(folder) == (templates.text(template) if template else "{{ messages }}")
        assert ("chat_template" in json.loads((folder / "tokenizer_config.json").read_text())) is (template is None)


def test_a_model_with_a_template_for_tools_keeps_both(base_model: Path, tmp_path: Path) -> None:
    qwen, plain = templates.text("qwen3"), templates.text("chatml")
    named = [{"name": "default", "template": plain}, {"name": "tool_use", "template": qwen}]
    config = json.loads((base_model / "tokenizer_config.json").read_text())
    (base_model / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))
    assert models.chat_template(base_model) == plain
    folder = tmp_path / "both"
    folder.mkdir()
    outputs.copy_tokenizer(base_model, folder, tokenizers.load(base_model, False, enable_thinking=False))
    merged = tmp_path / "merged"
    merged.mkdir()
    outputs.copy_tokenizer(folder, merged)
    for place in (folder, merged):
        kept = AutoTokenizer.from_pretrained(place).chat_template
        assert kept == {"default": plain, "tool_use": templates.with_thinking(qwen, False)}


def test_tokens_that_are_spelled_are_told_in_the_run(train: Train) -> None:
    run = train(template="llama3", **QUICK)
    assert "the tokenizer does not know <|eot_id|>, <|start_header_id|>, <|end_header_id|>, so llama3" in run.notes
    assert AutoTokenizer.from_pretrained(run.run_dir / "adapter").eos_token == "<|im_end|>"


def test_a_conversation_needs_a_template(train: Train, base_model: Path) -> None:
    with pytest.raises(ModelError, match="has no chat template: name one, as template: chatml does"):
        train(model_name_or_path=str(base_model), **QUICK)
