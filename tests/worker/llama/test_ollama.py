"""Exports to Ollama: conversations become the tokens of Transformers, and what is written is what Ollama reads."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from studio import templates
from studio.config.load import parse, save
from studio.config.ollama import OllamaConfig
from studio.errors import ModelError
from studio.exports import chat_template, gguf, go_template
from studio.exports.chat_template import ChatTemplate
from studio.exports.ollama import Source
from studio.worker.door import Clock, Desk
from studio.worker.llama import conversion, ollama, texts
from studio.worker.llama.library import Model
from studio.worker.llama.ollama import Creation
from studio.worker.report import Reporter
from studio.worker.stop import STOPPED, Requests
from tests.fakes.ollama import read
from tests.worker.conftest import ROOT, Finished, Start, Worker, make_model

pytestmark = pytest.mark.skipif(
    not (gguf.CONVERTER / "conversion").is_dir(), reason="llama.cpp's converter is not installed: make extras"
)
QUESTION = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small program called ollama on the PATH; returns where it keeps what it took in."""
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/fakes/ollama.py "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_OLLAMA_KEPT", str(tmp_path / "kept.json"))
    return tmp_path / "kept.json"


def begin(start: Start, tmp_path: Path, model: Path, **keys: Any) -> Worker:
    run_dir = tmp_path / "saves" / "run"
    run_dir.mkdir(parents=True)
    save(parse(OllamaConfig, {"model_name_or_path": str(model), **keys}), run_dir / "config.yaml")
    return start("ollama", run_dir)


def test_a_model_goes_to_ollama(start: Start, tmp_path: Path, tiny_model: Path, installed: Path) -> None:
    worker = begin(start, tmp_path, tiny_model, default_system="Be kind.", outtype="q4_0", run_name="Mein Modell")
    assert worker.wait() == 0, worker.log
    folder = worker.run_dir / "ollama"
    kept = json.loads(installed.read_text())
    assert kept["name"] == "mein-modell"
    assert kept["SYSTEM"] == "Be kind."
    assert kept["stop"] == ["<|im_end|>", "<|im_start|>"]
    assert kept["num_ctx"] == "512"
    assert read((folder / "Modelfile").read_text())["FROM"] == "./Mein Modell-q4_0.gguf"
    assert {path.name for path in folder.iterdir()} == {"Modelfile", "README.md", "Mein Modell-q4_0.gguf"}
    assert worker.json("result.json")["created"]
    assert "ollama run mein-modell" in (worker.run_dir / "report.md").read_text()
    assert not (worker.run_dir / "tmp").exists()


def test_what_ollama_says_against_it_is_told(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_OLLAMA_REFUSES", "could not connect to ollama server, run 'ollama serve' to start it")
    reporter = Reporter(tmp_path)
    desk = Desk(tmp_path, reporter, Requests(tmp_path, last_words=lambda: None), Clock())
    created = ollama._create(desk, "name", tmp_path)
    reporter.close()
    assert created == Creation(False, "Error: could not connect to ollama server, run 'ollama serve' to start it")
    assert "could not connect" in Finished(tmp_path).notes
    assert not installed.exists()


CREATE = """
from pathlib import Path
from studio.worker.door import leave, serve
from studio.worker.llama import ollama
run_dir = Path({run_dir!r})
leave(serve(run_dir, lambda desk: bool(ollama._create(desk, "name", run_dir / "tmp"))))
"""


def test_a_stop_ends_ollama_too(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_OLLAMA_SLEEPS", "60")
    (tmp_path / "tmp").mkdir()
    code = CREATE.format(run_dir=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as worker:
        while "gathering" not in str(Finished(tmp_path).json("status.json")):
            assert worker.poll() is None
            time.sleep(0.05)
        [program] = psutil.Process(worker.pid).children()
        (tmp_path / "STOP").touch()
        assert worker.wait(2) == STOPPED
    program.wait(2)
    assert not (tmp_path / "tmp").exists()
    assert not installed.exists()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> tuple[Path, Path]:
    """A model whose tokenizer puts <|endoftext|> before every text, and its GGUF file."""
    from tokenizers.processors import TemplateProcessing

    folder = tmp_path_factory.mktemp("begun")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    special = [("<|endoftext|>", tokenizer.convert_tokens_to_ids("<|endoftext|>"))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|endoftext|> $A", special_tokens=special)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder / "tokenizer")
    stated = json.loads((folder / "tokenizer/tokenizer_config.json").read_text())
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({**stated, "add_bos_token": True}))
    model = make_model(folder / "model", folder / "tokenizer")
    conversion.convert(model, folder / "model.gguf", "bf16", lambda *_: None)
    return model, folder / "model.gguf"


@pytest.mark.parametrize("template", ["intern2", "chatml"])
def test_a_first_token_is_there_once_or_not_at_all(tmp_path: Path, begun: tuple[Path, Path], template: str) -> None:
    """intern2 writes bos_token, which llama.cpp adds by itself; chatml does not, so llama.cpp must not either."""
    file = Path(shutil.copy(begun[1], tmp_path))
    with Model(file) as model:
        assert len(model.tokens("", as_prompt=True)) == 1
    chat = chat_template.of(begun[0], template)
    turns, parities = ollama._settled(file, Source(begun[0], chat, go_template.learn(chat.render)), template)
    assert len(parities) == 3
    tokenizer = AutoTokenizer.from_pretrained(begun[0])
    wanted = tokenizer.apply_chat_template(
        QUESTION, chat_template=chat.source, add_generation_prompt=True, return_dict=False
    )
    with Model(file) as model:
        assert model.tokens(turns.render(QUESTION), as_prompt=True) == wanted
        assert model.tokens("", as_prompt=True) == ([wanted[0]] if template == "intern2" else [])
    assert "<|endoftext|>" not in turns.text()


@pytest.mark.parametrize("name", templates.names())
def test_templates_are_applied_as_transformers_does(name: str) -> None:
    """What is learnt of a template before anything starts is learnt without Transformers."""
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    for conversation in texts.CONVERSATIONS:
        wanted, _ = render_jinja_template(
            [conversation], chat_template=templates.text(name), add_generation_prompt=True, **special
        )
        assert ChatTemplate(templates.text(name), special).render(conversation, True) == wanted[0]


def test_other_tokens_are_never_written(tmp_path: Path, begun: tuple[Path, Path]) -> None:
    file = Path(shutil.copy(begun[1], tmp_path))
    chat, other = (chat_template.of(begun[0], name) for name in ("chatml", "zephyr"))
    with pytest.raises(ModelError, match=r"the model would read other tokens than it was trained on \('Who are you"):
        ollama._settled(file, Source(begun[0], chat, go_template.learn(other.render)), "chatml")
