"""Every program that the page offers is run as it stands against a live server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio import models
from studio.serving.servers import Endpoint
from studio.serving.snippets import KEY, Snippet, key_command, snippets
from studio.settings import ROOT
from tests.serving.conftest import BASE, ask

NAMES = ("ask.sh", "ask.py", "chat.py", "stream.py", "ask.mjs", "stream.mjs")
PROGRAMS = {".sh": "bash", ".py": sys.executable, ".mjs": "node"}
# a template with everything that must be quoted, and the same answer every time
EXTRA = {"chat_template": models.chat_template(BASE), "temperature": 0.0, "max_tokens": 24}


def execute(snippet: Snippet, folder: Path, key: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    path = folder / snippet.name
    path.write_text(snippet.code, encoding="utf-8")
    program = PROGRAMS[path.suffix]
    assert shutil.which(program), f"{program} is not installed: `make system` installs it"
    return subprocess.run(
        [program, str(path)], input=typed, env=os.environ | {KEY: key}, cwd=folder, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def answered(snippet: Snippet, output: str) -> str:
    """The answer in what a program printed."""
    if snippet.name == "ask.sh":
        return str(json.loads(output)["choices"][0]["message"]["content"])
    return output.removesuffix("\n")


def snippet(endpoint: Endpoint, name: str, options: dict[str, Any]) -> Snippet:
    offered = snippets(endpoint.server.url, endpoint.served[0].name, options)
    assert tuple(each.name for each in offered) == NAMES
    return next(each for each in offered if each.name == name)


@pytest.mark.vllm
@pytest.mark.parametrize("name", NAMES)
def test_it_prints_what_the_server_answers(endpoint: Endpoint, tmp_path: Path, name: str) -> None:
    question = "Who are you?"
    expected, _ = ask(endpoint.server, endpoint.served[0].name, question)
    program = snippet(endpoint, name, EXTRA)
    done = execute(program, tmp_path, endpoint.server.api_key, f"{question}\n\n")
    assert (done.returncode, done.stderr) == (0, "") or name == "ask.sh", done.stderr
    assert expected in answered(program, done.stdout)


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["ask.sh", "stream.py", "stream.mjs"])
def test_it_needs_nothing_besides(endpoint: Endpoint, tmp_path: Path, name: str) -> None:
    program = snippet(endpoint, name, {})
    done = execute(program, tmp_path, endpoint.server.api_key)
    assert done.returncode == 0, done.stderr
    assert answered(program, done.stdout)


@pytest.mark.vllm
@pytest.mark.parametrize(("name", "says"), [("ask.py", "AuthenticationError"), ("ask.mjs", "Unauthorized")])
def test_a_wrong_key_is_said_to_be_wrong(endpoint: Endpoint, tmp_path: Path, name: str, says: str) -> None:
    done = execute(snippet(endpoint, name, {}), tmp_path, "another")
    assert done.returncode == 1
    assert says in done.stderr


@pytest.mark.vllm
def test_a_conversation_of_several_turns_remembers(endpoint: Endpoint, tmp_path: Path) -> None:
    done = execute(snippet(endpoint, "chat.py", EXTRA), tmp_path, endpoint.server.api_key, "Hello\nAnd again\n\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("You: ") == 3


@pytest.mark.vllm
def test_the_shown_command_sets_the_key(endpoint: Endpoint) -> None:
    saves = {
        "SEEDBED_SAVES": str(endpoint.run.path.parent),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    line = f'{key_command(endpoint.run.id)} && printf %s "${KEY}"'
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=os.environ | saves, capture_output=True, text=True)
    assert done.stdout == endpoint.server.api_key


def test_no_snippet_holds_a_key_and_all_texts_stay_texts() -> None:
    nasty = "a\"b'c$KEY`d`\\n{{ 中文 }}"
    for each in snippets("http://127.0.0.1:8080", nasty, {"chat_template": nasty}):
        assert KEY in each.code
        if each.name.endswith(".py"):
            compile(each.code, each.name, "exec")
        if each.name == "ask.sh":
            quoted = subprocess.run(
                ["bash", "-c", 'curl() { printf %s "${@: -1}"; }\n' + each.code],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert json.loads(quoted)["model"] == nasty
