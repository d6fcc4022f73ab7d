"""How vLLM is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from studio import templates
from studio.config.serve import Adapter, ServeConfig
from studio.machine import Gpu
from studio.serving import command, installed, refusals
from studio.settings import ASSETS, ROOT

CONFIG = ServeConfig()


def test_the_installed_vllm_is_recognised_without_an_import() -> None:
    name, version = installed.platform()
    assert name in ("cpu", "cuda")
    assert version[0].isdigit()


def test_one_slot_stays_empty() -> None:
    options = command.options(ServeConfig(max_loras=3), 1234, "cpu")
    assert options["max-loras"] == 4


def test_a_cpu_gets_a_bounded_cache_and_no_compiler() -> None:
    options = command.options(CONFIG, 1234, "cpu")
    assert options["kv-cache-memory-bytes"] == "512M"
    assert options["enforce-eager"]
    assert "gpu-memory-utilization" not in options
    assert command.environment(CONFIG, "k", "cpu", None, {})["TORCHDYNAMO_DISABLE"] == "1"


def test_a_gpu_gets_its_share_and_is_not_held_back() -> None:
    options = command.options(CONFIG, 1234, "cuda")
    assert options["gpu-memory-utilization"] == 0.85
    assert "enforce-eager" not in options
    assert "TORCHDYNAMO_DISABLE" not in command.environment(CONFIG, "k", "cuda", None, {})


def test_what_is_left_as_it_is_stays_out_of_the_file() -> None:
    plain = command.options(CONFIG, 1234, "cpu")
    assert not plain.keys() & {"quantization", "kv-cache-dtype", "tensor-parallel-size", "enable-prefix-caching"}


def test_every_option_reaches_vllm_by_its_own_name(tmp_path: Path) -> None:
    config = ServeConfig(
        quantization="fp8_per_channel",
        kv_cache_dtype="fp8",
        tensor_parallel_size=2,
        pipeline_parallel_size=3,
        enable_prefix_caching=False,
        enforce_eager=True,
        enable_sleep_mode=True,
        tool_call_parser="hermes",
        reasoning_parser="qwen3",
        chat_template=str(tmp_path / "mine.jinja"),
        vllm_args="block-size=16,seed=1",
    )
    assert (
        command.options(config, 1234, "cuda").items()
        >= {
            "quantization": "fp8_per_channel",
            "kv-cache-dtype": "fp8",
            "tensor-parallel-size": 2,
            "pipeline-parallel-size": 3,
            "enable-prefix-caching": False,
            "enforce-eager": True,
            "enable-sleep-mode": True,
            "enable-auto-tool-choice": True,
            "tool-call-parser": "hermes",
            "reasoning-parser": "qwen3",
            "chat-template": str(tmp_path / "mine.jinja"),
            "block-size": 16,
            "seed": 1,
        }.items()
    )


def test_a_named_template_is_one_of_our_files() -> None:
    path = Path(command.options(ServeConfig(chat_template="qwen"), 1234, "cpu")["chat-template"])
    assert path.read_text() == templates.text("qwen")


def test_each_worker_of_a_cpu_gets_cores_of_its_own() -> None:
    bound = command.environment(ServeConfig(tensor_parallel_size=2), "k", "cpu", 1, {})["VLLM_CPU_OMP_THREADS_BIND"]
    first, second = bound.split("|")
    assert first != second


def test_gpus_are_chosen_and_sleep_needs_the_routes_of_the_developers() -> None:
    config = ServeConfig(devices="2,3", enable_sleep_mode=True)
    environment = command.environment(config, "k", "cuda", None, {"CUDA_VISIBLE_DEVICES": "0"})
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["VLLM_SERVER_DEV_MODE"]) == ("2,3", "1")
    assert "VLLM_SERVER_DEV_MODE" not in command.environment(CONFIG, "k", "cuda", None, {})
    assert command.stand_in_environment(config, "k", 2, {}).items() >= {
        "CUDA_VISIBLE_DEVICES": "2,3", "OMP_NUM_THREADS": "2", "VLLM_API_KEY": "k", "PYTHONPATH": str(ROOT),
    }.items()  # fmt: skip


def test_the_stand_in_sees_no_more_gpus_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    three = [Gpu(index, "NVIDIA H100 80GB HBM3", 80 * 10**9, 0, 0) for index in range(3)]
    monkeypatch.setattr("studio.machine.gpus", lambda: iter(three))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def seen(**keys: Any) -> str:
        return command.stand_in_environment(ServeConfig(**keys), "k", None, {})["CUDA_VISIBLE_DEVICES"]

    assert (seen(), seen(devices="2,0"), seen(tensor_parallel_size=2)) == ("0", "2,0", "0,1")


def test_a_model_in_int8_is_served_without_adapters_on_a_cpu(tmp_path: Path) -> None:
    stored = {"quant_method": "compressed-tensors", "format": "int-quantized"}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": stored}))
    config = ServeConfig(model_name_or_path=str(tmp_path))
    assert "enable-lora" not in command.options(config, 1234, "cpu")
    assert command.options(config, 1234, "cuda")["enable-lora"]
    told = config.model_copy(update={"adapters": (Adapter(name="a", path="/x"),)})
    assert [problem.where for problem in refusals.refusals(told, "cpu")] == ["adapters"]


def test_secrets_stay_out_of_the_file_and_the_command_line() -> None:
    environment = command.environment(CONFIG, "very-secret", "cpu", None, {})
    assert environment["VLLM_API_KEY"] == "very-secret"
    assert "very-secret" not in command.to_yaml(command.options(CONFIG, 1234, "cpu"))
    assert "very-secret" not in " ".join(command.COMMAND)
    assert "very-secret" not in repr(command.call(CONFIG, "vllm", 1234, "very-secret"))


def test_the_file_reads_back_as_the_options() -> None:
    options = command.options(CONFIG, 1234, "cpu")
    assert yaml.safe_load(command.to_yaml(options)) == options


def test_what_the_person_set_is_kept_and_what_misleads_vllm_is_not() -> None:
    inherited = {"PYTHONPATH": "/mine", "LD_PRELOAD": "/lib/mine.so", "VLLM_CPU_KVCACHE_SPACE": "40", "HOME": "/h"}
    inherited["VLLM_LOGGING_LEVEL"] = "ERROR"  # as trl sets it for its whole process
    environment = command.environment(CONFIG, "k", "cpu", None, inherited)
    assert environment["PYTHONPATH"] == f"{command.PLUGIN}:/mine"
    assert environment["LD_PRELOAD"].endswith("/lib/mine.so")
    assert environment["HOME"] == "/h"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment
    assert environment["VLLM_LOGGING_LEVEL"] == "INFO"


def test_threads_bind_to_as_many_cores() -> None:
    assert command.environment(CONFIG, "k", "cpu", 1, {})["VLLM_CPU_OMP_THREADS_BIND"].isdigit()
    assert "VLLM_CPU_OMP_THREADS_BIND" not in command.environment(CONFIG, "k", "cpu", None, {})


def test_a_small_model_gets_one_thread_unless_told_otherwise() -> None:
    assert command.threads(CONFIG, 6_000_000) == 1
    assert command.threads(ServeConfig(threads=2), 6_000_000) == 2
    assert command.threads(CONFIG, 500_000_000) is None
    assert command.threads(CONFIG, None) is None


def test_only_local_models_are_offline(tmp_path: Path) -> None:
    local = command.environment(ServeConfig(model_name_or_path=str(tmp_path)), "k", "cpu", None, {})
    hub = command.environment(ServeConfig(model_name_or_path="Qwen/Qwen2.5-0.5B"), "k", "cpu", None, {})
    assert local["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in hub


def test_the_base_is_called_by_its_folder_or_hub_id() -> None:
    assert command.base_name(CONFIG) == "seedling"
    assert command.base_name(ServeConfig(model_name_or_path="/models/big one")) == "big one"
    assert command.base_name(ServeConfig(model_name_or_path="Qwen/Qwen2.5-0.5B")) == "Qwen/Qwen2.5-0.5B"
    assert command.options(CONFIG, 1, "cpu")["model"] == str(ASSETS / "seedling")
