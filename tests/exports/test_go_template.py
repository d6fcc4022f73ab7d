"""Chat templates as Ollama's TEMPLATE. What Go makes of each is kept in go_rendered.json, recorded with Go itself:

PATH=$PATH:/path/to/go/bin python -m tests.exports.test_go_template
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from studio import templates
from studio.errors import ModelError
from studio.exports import go_template
from studio.exports.chat_template import ChatTemplate

RECORDED = Path(__file__).with_name("go_rendered.json")
PROGRAM = Path(__file__).parents[1] / "fakes" / "ollama_template.go"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CONVERSATIONS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Who are you?"}],
    [
        {"role": "system", "content": "Answer {{ briefly }}.\n\nAlways."},
        {"role": "user", "content": 'print("a")  # it\'s'},
        {"role": "assistant", "content": "a\n\n```py\nx = {'b': 1}\n```"},
        {"role": "user", "content": "And <b>then</b>?"},
    ],
    [
        {"role": "user", "content": "你是谁？😀"},
        {"role": "assistant", "content": "我是一个助手。"},
        {"role": "user", "content": "naïve café…"},
        {"role": "assistant", "content": "Straße"},
        {"role": "user", "content": "x  y"},
    ],
]
# as models on the hub write it: a system prompt of their own, white space stripped, two kinds of turn
OTHERS = {
    "default system": "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}" + templates.text("chatml"),
    "no system": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ bos_token }}"
    "{% for m in messages %}{{ '<t>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ m.content | trim + '</t>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<t>model\n' }}{% endif %}",
    "system last": "{{ bos_token }}{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}"
    "{{ '[INST] ' }}{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{{ m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    "braces": "{% for m in messages %}{{ '{{' + m['role'] + '\"\"\"}} ' + m['content'] + ' <end>' }}{% endfor %}"
    '{% if add_generation_prompt %}{{ \'{{assistant"""}} \' }}{% endif %}',
}
SOURCES = {**{name: templates.text(name) for name in templates.names()}, **OTHERS}


def chat(name: str) -> ChatTemplate:
    return ChatTemplate(SOURCES[name], SPECIAL)


def asked(name: str) -> list[list[dict[str, str]]]:
    """The conversations, without system prompts for a template that refuses them."""
    takes = go_template.learn(chat(name).render).takes_system
    return [[turn for turn in each if takes or turn["role"] != "system"] for each in CONVERSATIONS]


@cache
def recorded() -> Any:
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def rendered_by_go(texts: dict[str, str]) -> dict[str, list[str]]:
    """What Go makes of each template and its conversations, by name."""
    pairs = [(name, messages) for name in texts for messages in asked(name)]
    cases = [{"template": texts[name], "messages": messages} for name, messages in pairs]
    done = subprocess.run(
        ["go", "run", str(PROGRAM)], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = {name: [] for name in texts}
    for (name, _), text in zip(pairs, json.loads(done.stdout), strict=True):
        found[name].append(text)
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_go_writes_what_the_chat_template_writes(name: str) -> None:
    turns = go_template.learn(chat(name).render)
    assert turns.text() == recorded()[name]["template"], "record again: see above"
    for messages, by_go in zip(asked(name), recorded()[name]["texts"], strict=True):
        assert by_go == chat(name).render(messages, True)
        assert by_go == turns.render(messages)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed: its recorded answers are compared above")
def test_what_is_recorded_of_go_is_what_it_does() -> None:
    found = rendered_by_go({name: record["template"] for name, record in recorded().items()})
    assert found == {name: record["texts"] for name, record in recorded().items()}


def test_a_first_token_that_llama_cpp_adds_is_left_out_once() -> None:
    for name in ("llama2", "llama3", "mistral", "gemma", "deepseek"):
        turns = go_template.learn(chat(name).render)
        assert turns.begins_with("<s>")
        for messages in CONVERSATIONS:
            assert "<s>" + turns.without_first("<s>").render(messages) == turns.render(messages)
    assert not go_template.learn(chat("vicuna").render).begins_with("<s>")


def test_a_question_that_opens_otherwise_at_first() -> None:
    turns = go_template.learn(chat("llama2").render)
    assert turns.question == ""
    assert turns.answer_end == " </s><s>[INST] "


INEXPRESSIBLE = {
    "writes a turn otherwise": "{% for m in messages %}{{ m.role + (loop.length | string) + m.content }}{% endfor %}",
    "leaves out a message": "{{ messages[-1].content }}",
    "moves the system prompt": "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content + '.' }}{% endif %}{{ '[Q]' }}"
    "{{ m.content + '[/Q]' }}{% else %}{{ m.content + '[E]' }}{% endif %}{% endfor %}",
    "in another order": "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    "{{ messages[0].content }}",
    "refuses it": "{{ raise_exception('not today') }}",
}


@pytest.mark.parametrize("reason", INEXPRESSIBLE)
def test_what_ollama_cannot_say_is_refused_in_words(reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        go_template.learn(ChatTemplate(INEXPRESSIBLE[reason]).render)


def record() -> None:
    """Have Go render every template anew."""
    texts = {name: go_template.learn(chat(name).render).text() for name in SOURCES}
    found = {name: {"template": texts[name], "texts": by_go} for name, by_go in rendered_by_go(texts).items()}
    RECORDED.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
