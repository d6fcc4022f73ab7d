"""Who answers, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.config.serve import ServeConfig
from studio.serving import backend, command, installed
from studio.serving.backend import Backend


def folder_of(architecture: str, folder: Path) -> ServeConfig:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return ServeConfig(model_name_or_path=str(folder))


def test_vllm_where_it_knows_the_model(tmp_path: Path) -> None:
    assert backend.choose(ServeConfig()) == Backend("vllm")
    assert backend.choose(folder_of("LlamaForCausalLM", tmp_path)) == Backend("vllm")


def test_transformers_where_vllm_does_not(tmp_path: Path) -> None:
    found = backend.choose(folder_of("PigeonForCausalLM", tmp_path))
    assert found.name == "huggingface"
    assert "vLLM does not know PigeonForCausalLM" in found.why


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    pigeon = folder_of("PigeonForCausalLM", tmp_path)
    assert backend.choose(pigeon.model_copy(update={"infer_backend": "vllm"})) == Backend("vllm")
    assert backend.choose(ServeConfig(infer_backend="huggingface")) == Backend("huggingface")


def test_transformers_where_vllm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise installed.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installed.importlib.metadata, "version", nothing)
    assert "not installed" in backend.choose(ServeConfig()).why


def test_a_model_of_the_hub_is_left_to_vllm() -> None:
    assert backend.choose(ServeConfig(model_name_or_path="nobody/nothing-at-all")) == Backend("vllm")


def test_the_preview_is_the_file_of_who_answers() -> None:
    assert command.COMMAND[2] in command.preview(ServeConfig())
    shown = command.preview(ServeConfig(infer_backend="huggingface", port=8080))
    assert command.STAND_IN[2] in shown
    assert "port: 8080" in shown
    assert "enable-lora" not in shown
