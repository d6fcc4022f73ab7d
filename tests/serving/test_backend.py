"""Who answers, and why."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from studio import machine
from studio.config.load import parse
from studio.config.serve import ServeConfig
from studio.serving import backend, command, installed, memory, refusals
from studio.serving.backend import Backend
from studio.settings import ASSETS


def folder_of(architecture: str, folder: Path, **more: object) -> ServeConfig:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **more}))
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


GPTQ = {"quant_method": "gptq", "bits": 4}
PACKED = {"format": "pack-quantized", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}}
MIXED = {**PACKED, "config_groups": {**PACKED["config_groups"], "group_1": {"weights": {"num_bits": 8}}}}
PRESET = {"format": "pack-quantized", "config_groups": {"W4A16": ["Linear"]}}
ODD = {"format": "pack-quantized", "config_groups": {"group_0": None, "group_1": {"weights": ["num_bits"]}, "x": "y"}}
WIDER = {"format": "pack-quantized", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}
INT8 = {"format": "int-quantized", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}


@pytest.mark.parametrize(
    ("stored", "lacks", "why"),
    [
        (PACKED, True, "AVX512"), (GPTQ, True, "AVX512"), (PACKED, False, ""), (GPTQ, False, ""),
        (PRESET, True, "AVX512"), ({"quant_method": "awq", "w_bit": "4"}, True, "AVX512"), (MIXED, True, "8-bit"),
        (ODD, True, ""), ({"quant_method": "gptq", "bits": [4]}, True, ""),
        (WIDER, False, "8-bit"), (INT8, True, ""), ({"format": "pack-quantized"}, True, ""), ("odd", True, ""),
    ],
)  # fmt: skip
def test_transformers_where_vllm_has_no_kernel_for_the_weights(
    stored: object, lacks: bool, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "lacks_avx512", lambda: lacks)
    config = folder_of("LlamaForCausalLM", tmp_path, quantization_config=stored)
    assert why in backend.no_kernel(config, "cpu")
    assert bool(backend.no_kernel(config, "cpu")) == bool(why)
    assert backend.no_kernel(config, "cuda") == ""
    if installed.platform()[0] == "cpu":
        assert backend.choose(config).name == ("huggingface" if why else "vllm")
        asked = config.model_copy(update={"infer_backend": "vllm"})
        assert [problem.where for problem in refusals.refusals(asked, "cpu")] == (["infer_backend"] if why else [])


@pytest.mark.parametrize(
    ("keys", "lacks", "memory_gb", "free_gb", "dtype"),
    [
        ({}, True, 16, 8, "float32"), ({}, False, 16, 8, "auto"),
        ({}, True, 0.05, 8, "auto"), ({}, True, 16, 1, "auto"),
        ({"infer_backend": "huggingface"}, True, 16, 8, "float32"), ({"dtype": "bfloat16"}, True, 16, 8, "bfloat16"),
        ({"quantization": "fp8_per_channel"}, True, 16, 8, "auto"),
        ({"model_name_or_path": "nobody/nothing"}, True, 16, 8, "auto"),
    ],
)  # fmt: skip
def test_small_models_are_served_in_float32_where_bfloat16_is_the_slow_type(
    keys: dict[str, str], lacks: bool, memory_gb: float, free_gb: float, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "lacks_avx512", lambda: lacks)
    monkeypatch.setattr(installed, "platform", lambda: ("cpu", "0.32.0"))
    monkeypatch.setattr(machine, "chosen", lambda *_, **__: [])
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=memory_gb * 1e9, available=free_gb * 1e9)
    )
    config = parse(ServeConfig, keys)
    assert memory.settled(config).dtype == dtype
    is_wide = dtype == "float32"
    assert memory.settled(config).kv_cache_memory == ("1024M" if is_wide else "512M")  # as many tokens
    chosen = config.model_copy(update={"kv_cache_memory": "64M"})
    assert memory.settled(chosen) == chosen.model_copy(update={"dtype": dtype})  # the size that was asked for
    monkeypatch.setattr(installed, "platform", lambda: ("cuda", "0.32.0"))
    monkeypatch.setattr(machine, "chosen", lambda *_, **__: ["a GPU"])
    assert memory.settled(config) == config


def test_what_is_quantised_keeps_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "lacks_avx512", lambda: True)
    shutil.copytree(ASSETS / "seedling", tmp_path / "model")
    stored = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps({**stored, "quantization_config": INT8}))
    assert memory.settled(ServeConfig(model_name_or_path=str(tmp_path / "model"))).dtype == "auto"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX512 is of x86 processors")
def test_the_processor_is_that_of_the_machine() -> None:
    assert machine.lacks_avx512() == (" avx512f" not in Path("/proc/cpuinfo").read_text())


def test_a_model_of_the_hub_is_left_to_vllm() -> None:
    assert backend.choose(ServeConfig(model_name_or_path="nobody/nothing-at-all")) == Backend("vllm")


def test_the_preview_is_the_file_of_who_answers() -> None:
    assert command.COMMAND[2] in command.preview(ServeConfig())
    shown = command.preview(ServeConfig(infer_backend="huggingface", port=8080))
    assert command.STAND_IN[2] in shown
    assert "port: 8080" in shown
    assert "enable-lora" not in shown
