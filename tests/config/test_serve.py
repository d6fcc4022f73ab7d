"""What a server's options refuse by themselves, on any machine."""

from __future__ import annotations

from typing import Any

import pytest

from studio.config import load
from studio.config.serve import ServeConfig
from studio.errors import ConfigError


def wrong(**values: Any) -> dict[str, str]:
    """The problems by key; none where the values are fine."""
    try:
        load.parse(ServeConfig, values)
    except ConfigError as error:
        return {problem.where: problem.what for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("block-size=16, seed=1", {"block-size": 16, "seed": 1}),
        ("--max_num_batched_tokens=4096", {"max-num-batched-tokens": 4096}),
        ('{"hf-overrides": {"a": 1}, "seed": -1}', {"hf-overrides": {"a": 1}, "seed": -1}),
        ({"seed": 1, "disable-log-stats": True}, {"seed": 1, "disable-log-stats": True}),
        ("load-format=dummy", {"load-format": "dummy"}),
        (None, {}),
    ],
)
def test_more_options_of_vllm(text: Any, meant: dict[str, Any]) -> None:
    assert load.parse(ServeConfig, {"vllm_args": text}).extra == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host=0.0.0.0", "host cannot be set"),
        ("hos=0.0.0.0", "hos cannot be set"),  # argparse takes the beginning of a name for the whole
        ("--api-key=x", "api-key cannot be set"),
        ("allowed-origins=*", "allowed-origins cannot be set"),
        ("allow-credentials=true", "cannot be set"),
        ("served_model_name=a", "served-model-name cannot be set"),
        ("port=80", "is set by port"),
        ("no-enable-prefix-caching=true", "is set by enable_prefix_caching"),
        ('{"host=0.0.0.0": true}', "is no name of an option"),
        ('{"seed": "--host"}', "would take for another option"),
        ('{"logits-processors": ["a", "--host", "0.0.0.0"]}', "would take for another option"),
        ("seed", "neither a JSON object nor"),
        ("{seed: 1", "neither a JSON object nor"),
    ],
)
def test_options_of_vllm_that_are_ours_or_would_open_the_server(text: str, said: str) -> None:
    assert said in wrong(vllm_args=text)["vllm_args"]


@pytest.mark.parametrize("name", ["bitsandbytes", "gguf", "mxfp8", "int8_per_channel_weight_only", "gptq"])
def test_a_quantisation_that_cannot_be_had_is_refused_with_the_reason(name: str) -> None:
    said = wrong(quantization=name)["quantization"]
    assert "input should be" not in said
    assert len(said) > 40


def test_an_unknown_quantisation_is_answered_with_the_known_ones() -> None:
    assert "fp8_per_channel" in wrong(quantization="int3")["quantization"]


def test_a_template_is_a_known_name_or_a_file() -> None:
    assert wrong(chat_template="qwen") == {}
    assert wrong(chat_template="mine.jinja") == {}
    assert "there is no template 'quen'" in wrong(chat_template="quen")["chat_template"]


def test_parallel_sizes_need_as_many_gpus() -> None:
    assert wrong(tensor_parallel_size=2, devices="0,1") == {}
    assert "fewer GPUs than the 4" in wrong(tensor_parallel_size=2, pipeline_parallel_size=2, devices="0,1")["devices"]
    assert "devices" in wrong(devices="0;1")
