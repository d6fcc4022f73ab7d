"""The names that vLLM knows, read from its files."""

from __future__ import annotations

from studio.serving import installed


def test_names_of_parsers() -> None:
    assert {"hermes", "llama3_json", "mistral"} <= installed.tool_call_parsers()
    assert {"qwen3", "deepseek_r1"} <= installed.reasoning_parsers()


def test_architectures_are_those_that_it_still_serves() -> None:
    known = installed.architectures()
    assert {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"} <= known
    assert "MotifForCausalLM" not in known  # given up in 0.10.2


def test_versions() -> None:
    assert installed.version("vllm") == installed.platform()[1]
    assert installed.version("huggingface")[0].isdigit()
