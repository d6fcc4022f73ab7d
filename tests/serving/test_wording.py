"""Which template and which end of answers go with a request: those that the model was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio import templates
from studio.serving.client import Sampling
from studio.serving.speaker import Speaker
from studio.serving.wording import SERVERS_OWN, Wording, wording

OWN = "{{ messages[0]['content'] }}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model without a chat template, whose tokenizer knows two ends."""
    return tokenizer(tmp_path / "base", None, "<|endoftext|>")


def tokenizer(folder: Path, template: str | None, end: str) -> Path:
    folder.mkdir()
    tokens = [{"id": 0, "content": "<|endoftext|>"}, {"id": 7, "content": "<|im_end|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": end}}))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def on(base: Path, adapter: Path | None = None) -> Speaker:
    return Speaker(str(base), str(adapter) if adapter else None, 8, "")


def test_an_adapter_brings_the_template_and_the_end_that_it_was_trained_with(base: Path, tmp_path: Path) -> None:
    chatml = templates.text("chatml")
    adapter = tokenizer(tmp_path / "adapter", chatml, "<|im_end|>")
    assert wording(on(base, adapter)) == Wording(chatml, (7,))
    (base / "chat_template.jinja").write_text(OWN)
    assert wording(on(base, adapter)).to_json() == {"chat_template": chatml, "stop_token_ids": [7]}


def test_nothing_is_sent_where_the_server_has_it_right(base: Path, tmp_path: Path) -> None:
    (base / "chat_template.jinja").write_text(OWN)
    same = tokenizer(tmp_path / "same", OWN, "<|endoftext|>")
    without = tokenizer(tmp_path / "without", None, "<|endoftext|>")
    for who in (on(base), on(base, same), on(base, without), Speaker("owner/hub-model", None, 0, "")):
        assert wording(who) == SERVERS_OWN
    assert SERVERS_OWN.to_json() == {}


def test_a_base_without_a_template_is_asked_like_the_adapter_beside_it(base: Path, tmp_path: Path) -> None:
    adapter = tokenizer(tmp_path / "adapter", templates.text("chatml"), "<|im_end|>")
    other = Speaker(str(tmp_path / "elsewhere"), str(tokenizer(tmp_path / "other", OWN, "</s>")), 8, "")
    assert wording(on(base), [other, on(base), on(base, adapter)]) == Wording(templates.text("chatml"), (7,))
    assert wording(on(base), [other]) == Wording(templates.text("default"))


def test_a_mode_of_thinking_goes_to_the_template() -> None:
    assert Sampling(enable_thinking=False).to_json()["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in Sampling().to_json()


def test_a_server_with_another_template_is_told_where_its_answers_end(base: Path, tmp_path: Path) -> None:
    (base / "chat_template.jinja").write_text(OWN)
    assert wording(on(base), given="qwen") == Wording(None, (7,)), "the base itself ends with <|endoftext|>"
    assert wording(on(base), given="alpaca") == SERVERS_OWN
    same = tokenizer(tmp_path / "same", OWN, "<|endoftext|>")
    assert wording(on(base, same), given="qwen") == Wording(OWN), "an adapter is asked as it was trained"


def test_a_server_with_a_template_of_a_persons_own(base: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages }}")
    assert wording(on(base), given=str(own)) == SERVERS_OWN
    same = tokenizer(tmp_path / "same", "{{ messages }}", "<|endoftext|>")
    assert wording(on(base, same), given=str(own)) == SERVERS_OWN
    own.unlink()
    assert wording(on(base, same), given=str(own)) == Wording("{{ messages }}")
