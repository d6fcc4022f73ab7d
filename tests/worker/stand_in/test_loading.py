"""What a model folder and the options' file make of the server, and what is said where they make none."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from studio.errors import ModelError
from studio.worker.stand_in import loading


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    return {"model": str(folder), "served-model-name": ["tiny"], "dtype": "float32", **changes}


@pytest.fixture
def folder(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


def test_the_models_own_sampling_defaults_are_not_taken_over(folder: Path) -> None:
    habits = {"repetition_penalty": 1.3, "do_sample": True, "temperature": 0.3, "eos_token_id": [2, 7]}
    (folder / "generation_config.json").write_text(json.dumps(habits))
    desk = loading.load(options(folder))
    assert desk.served.base.generation_config.repetition_penalty is None
    assert desk.ends >= {2, 7}


def test_the_context_is_the_models_or_shorter(folder: Path) -> None:
    assert loading.load(options(folder)).served.length_max == 512
    assert loading.load(options(folder, **{"max-model-len": 100})).served.length_max == 100
    with pytest.raises(ModelError, match=r"max_model_len=600 is greater than .* 512"):
        loading.load(options(folder, **{"max-model-len": 600}))


def test_a_chat_template_of_a_file_is_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jinja").write_text("{{ messages[0].content }}!")
    desk = loading.load(options(folder, **{"chat-template": str(tmp_path / "other.jinja")}))
    assert desk.tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "x!"


def lack_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "model.safetensors"


def cut_weights(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return "incomplete metadata"


def lose_a_weight(folder: Path) -> str:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    return "no weights for model.layers.1.mlp.up_proj.weight"


def be_of_no_known_kind(folder: Path) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "wishful"}))
    return "wishful"


def be_of_another_shape(folder: Path) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 256}))
    return "mismatch"


@pytest.mark.parametrize(
    "spoil",
    [lack_weights, cut_weights, lose_a_weight, be_of_no_known_kind, be_of_another_shape],
    ids=lambda spoil: spoil.__name__,
)
def test_a_folder_that_makes_no_model_is_refused(folder: Path, spoil: Any) -> None:
    message = spoil(folder)
    with pytest.raises(ModelError, match=message):
        loading.load(options(folder))


def spoken(file: Path, **environment: str) -> tuple[int, str]:
    """Exit code and last words of a server that cannot start."""
    command = [sys.executable, "-m", "studio.worker.stand_in", "--config", str(file)]
    ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout.splitlines()[-1]


def test_a_taken_port_is_told_before_anything_is_loaded(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = {"host": "127.0.0.1", "port": other.getsockname()[1]}
        (tmp_path / "serve.yaml").write_text(yaml.safe_dump(options(folder, **place)))
        assert spoken(tmp_path / "serve.yaml", VLLM_API_KEY="key") == (1, "OSError: [Errno 98] Address already in use")


def test_no_server_without_a_key(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(options(folder)))
    code, words = spoken(tmp_path / "serve.yaml", VLLM_API_KEY="")
    assert (code, words[:13]) == (1, "ServingError:")
