"""What a benchmark may be asked for, and what it refuses in words."""

import pytest

from studio.config.bench import BenchConfig
from studio.config.command import command
from studio.config.load import changed, overrides, parse
from studio.errors import ConfigError


def bench(*words: str) -> BenchConfig:
    return parse(BenchConfig, overrides(words))


def problems(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        bench(*words)
    return str(caught.value)


def test_lists_are_written_with_commas() -> None:
    config = bench(
        "concurrency=2,16", "prompt_tokens=100", "output_tokens=[10, 20]", "variants=vllm,fp8,int8,./models/int8"
    )
    assert config.concurrency == (2, 16)
    assert config.prompt_tokens == (100,)
    assert config.output_tokens == (10, 20)
    assert config.variants == ("vllm", "fp8", "int8", "./models/int8")


def test_the_longest_conversation_counts_the_spread() -> None:
    assert bench("prompt_tokens=10,100", "output_tokens=7", "length_spread=0.5").longest == 111
    assert bench("prompt_tokens=10", "output_tokens=7", "length_spread=0").longest == 17


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["variants=vllm,int9"], "'int9' is no way to answer: take vllm, huggingface, generate_batch"),
        (["variants=vllm,vllm"], "names vllm twice"),
        (["variants="], "variants"),
        (["concurrency=0"], "concurrency"),
        (["concurrency=8,8"], "names 8 twice"),
        (["output_tokens=many"], "output_tokens"),
        (["serve_options=quantization=fp8"], "quantization is set for each variant"),
        (["serve_options=port=8000"], "port is set for each variant"),
        (["serve_options=max_num_seq=3"], "max_num_seq"),
        (["serve_options=max_num_seqs=none"], "max_num_seqs"),
        (["serve_options=vllm_args=host=0.0.0.0"], "vllm_args"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_cannot_be_measured_is_refused(words: list[str], told: str) -> None:
    assert told in problems(*words)


def test_options_of_the_servers_are_read_as_theirs() -> None:
    assert bench("serve_options=max_num_seqs=64,dtype=float16").server == {"max_num_seqs": "64", "dtype": "float16"}


def test_the_command_says_the_same() -> None:
    config = bench("model_name_or_path=/models/a", "concurrency=1,4", "serve_options=threads=2")
    words = command(config).split(" ", 5)
    assert words[:5] == ["python", "-m", "studio", "bench", "serve"]
    assert words[5].startswith("/models/a ")
    assert bench(*(f"{key}={value}" for key, value in changed(config).items())) == config
