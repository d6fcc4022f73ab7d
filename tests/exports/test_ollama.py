"""The plan of an export to Ollama and the Modelfile, by what a real folder says; read back by a program like Ollama."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio.config.load import parse
from studio.config.ollama import OllamaConfig
from studio.errors import ConfigError
from studio.exports import chat_template, gguf, go_template, modelfile, ollama
from studio.exports.modelfile import Modelfile
from studio.runs.store import Store
from studio.settings import ASSETS
from tests.fakes.ollama import read

SEEDLING = ASSETS / "seedling"
needs_converter = pytest.mark.skipif(
    not (gguf.CONVERTER / "conversion").is_dir(), reason="llama.cpp's converter is not installed: make extras"
)


def config(**keys: Any) -> OllamaConfig:
    return parse(OllamaConfig, {"model_name_or_path": "seedling", **keys})


def copied(target: Path, template: str | None, **generation: Any) -> Path:
    """The bundled model with another template and other wishes for generation."""
    shutil.copytree(SEEDLING, target)
    (target / "chat_template.jinja").unlink()
    stated = json.loads((target / "tokenizer_config.json").read_text())
    (target / "tokenizer_config.json").write_text(json.dumps({**stated, "chat_template": template}))
    if generation:
        (target / "generation_config.json").write_text(json.dumps(generation))
    return target


def stops(folder: Path, name: str | None = None) -> tuple[str, ...]:
    chat = chat_template.of(folder, name)
    return modelfile.stops(folder, chat, go_template.learn(chat.render))


@needs_converter
def test_a_plan_says_what_will_be_written(tmp_path: Path) -> None:
    said = ollama.plan(Store(tmp_path / "saves"), config())
    assert said.bytes == pytest.approx(6_283_488, rel=0.05)
    assert "'<|im_end|>'" in "".join(said.lines)
    assert "ollama create seedling -f Modelfile" in "".join(said.lines)
    assert said.warnings == ()


def test_a_template_that_ollama_cannot_say_is_refused_with_a_way_out(tmp_path: Path) -> None:
    counting = "{% for m in messages %}{{ loop.length | string + m.content }}{% endfor %}"
    folder = copied(tmp_path / "model", counting)
    with pytest.raises(ConfigError, match=r"writes a turn otherwise.*Set template to one of.*--jinja"):
        ollama.source(Store(tmp_path), config(model_name_or_path=str(folder)))
    found = ollama.source(Store(tmp_path), config(model_name_or_path=str(folder), template="chatml"))
    assert found.turns.question == "<|im_start|>user\n"


def test_a_model_without_a_template_is_refused_until_one_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", None)
    with pytest.raises(ConfigError, match="has no chat template: name the one"):
        ollama.source(Store(tmp_path), config(model_name_or_path=str(folder)))
    assert ollama.source(Store(tmp_path), config(model_name_or_path=str(folder), template="vicuna")).turns.prompt


def test_answers_stop_where_the_template_ends_them(tmp_path: Path) -> None:
    assert stops(SEEDLING) == ("<|im_end|>", "<|im_start|>")
    assert stops(SEEDLING, "vicuna") == ("<|im_end|>", "USER:")  # its eos_token, and a question in plain words
    assert stops(SEEDLING, "alpaca") == ("<|im_end|>", "### Instruction:")
    ends = copied(tmp_path / "model", "{% for m in messages %}{{ m.content + '|' }}{% endfor %}", eos_token_id=[2, 0])
    assert stops(ends) == ("<|im_end|>", "<|endoftext|>")


def test_parameters_are_those_that_the_model_recommends(tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", "x", temperature=0.7, top_k=20, repetition_penalty=1.05, eos_token_id=2)
    asked = config(top_p=0.9, temperature=0.2, num_ctx=1_000_000)
    assert modelfile.parameters(folder, asked) == {
        "num_ctx": 2048, "temperature": 0.2, "top_k": 20, "repeat_penalty": 1.05, "top_p": 0.9,
    }  # fmt: skip


def test_a_modelfile_is_read_as_it_was_meant() -> None:
    template, system = 'a "b" {{ if .System }}\n\n c {{ end }} ', 'Say "no"\nalways. '
    text = str(
        Modelfile("a.gguf", template, system, ("\n", 'say "x"', "\\n", "### Q:"), {"num_ctx": 131072, "top_p": 0.5})
    )
    assert read(text) == {
        "FROM": "./a.gguf",
        "TEMPLATE": template,
        "SYSTEM": system,
        "num_ctx": "131072",
        "top_p": "0.5",
        "stop": ["\n", 'say "x"', "\\n", "### Q:"],
    }


NAMES = {"My Model (v2)": "my-model-v2", "你好": "model", "Qwen3-0.6B": "qwen3-0.6b"}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_such_that_ollama_takes_them(name: str) -> None:
    assert modelfile.model_name(config(), name) == NAMES[name]


WRONG: dict[str, Any] = {
    "ollama_name": "Großes Modell",
    "outtype": "q9_9",
    "template": "chatmll",
    "default_system": 'say """',
}


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        config(**WRONG)
    assert {problem.where for problem in raised.value.problems} == set(WRONG)


def test_a_system_prompt_that_would_lose_its_last_quote_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot end with"):
        config(default_system='Say "yes"')
