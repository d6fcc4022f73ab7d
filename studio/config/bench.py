"""What a benchmark of model servers can be asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import BeforeValidator, ValidationError

from studio.config.option import Config, Names, option, split_names
from studio.config.serve import ServeConfig
from studio.errors import Problem

# ways of answering, beside vLLM with one of its quantisations and another checkpoint of the model
SERVERS = ("vllm", "huggingface")
GENERATE = {"generate_batch": "static batch", "generate_single": "one by one"}
QUANTISED = ("fp8", "fp8_per_channel", "fp8_per_block")
INT8 = "int8"  # a checkpoint that the benchmark makes of the model
KNOWN = (*SERVERS, *GENERATE, INT8, *QUANTISED)
# what tells one variant from another, or would disturb the measuring
OWN = frozenset({
    "kind", "model_name_or_path", "infer_backend", "quantization", "adapters", "run_name", "port",
    "idle_stop_minutes", "enable_sleep_mode",
})  # fmt: skip

Counts = Annotated[tuple[Annotated[int, Ge(1), Le(1_000_000)], ...], BeforeValidator(split_names)]


class BenchConfig(Config):
    """One load, put to the same model answered in several ways."""

    kind: Literal["bench"] = "bench"

    model_name_or_path: str = option(
        "seedling",
        en="The model to measure: seedling, a local folder, or a hub id.",
        zh="要测量的模型：seedling、本地文件夹或模型库 ID。",
        group="bench",
        label=("Model", "模型"),
        min_length=1,
    )
    variants: Names = option(
        ("vllm", "generate_batch", "generate_single"),
        en="Who answers: vllm, huggingface (the Transformers server), generate_batch, generate_single, "
        "int8 (made of the model), fp8, fp8_per_channel, fp8_per_block, or the folder of a quantised checkpoint.",
        zh="对比方式：vllm、huggingface（Transformers 服务）、generate_batch、generate_single、int8（由模型转换）、"
        "fp8、fp8_per_channel、fp8_per_block，或已量化模型的文件夹。",
        group="bench",
        label=("Variants", "对比方式"),
        min_length=1,
    )
    concurrency: Counts = option(
        (1, 8, 32),
        en="How many clients ask at the same time; each list entry is measured.",
        zh="同时请求的客户端数；列表中的每个值都会测量。",
        group="bench",
        label=("Clients at once", "并发数"),
        min_length=1,
    )
    prompt_tokens: Counts = option(
        (128,),
        en="Length of the prompts in tokens; each list entry is measured.",
        zh="提示词长度（token）；列表中的每个值都会测量。",
        group="bench",
        label=("Prompt tokens", "提示词长度"),
        min_length=1,
    )
    output_tokens: Counts = option(
        (64,),
        en="Length of the answers in tokens; each list entry is measured.",
        zh="回答长度（token）；列表中的每个值都会测量。",
        group="bench",
        label=("Answer tokens", "回答长度"),
        min_length=1,
    )
    length_spread: float = option(
        0.5,
        en="Answers are longer or shorter by up to this share, as those of people are; 0 makes them all equal.",
        zh="回答长度上下浮动的最大比例，模拟真实请求；0 表示全部等长。",
        group="bench",
        label=("Spread of the lengths", "长度浮动"),
        ge=0,
        le=0.9,
    )
    requests_per_client: int = option(
        4,
        en="Questions that each client asks, one after another.",
        zh="每个客户端依次发出的请求数。",
        group="bench",
        label=("Requests a client", "每客户端请求数"),
        ge=1,
        le=1000,
    )
    repeats: int = option(
        2,
        en="How often each figure is taken; the median is told, with the lowest and the highest.",
        zh="每项测量的重复次数；报告中位数及最低、最高值。",
        group="bench",
        label=("Repeats", "重复次数"),
        ge=1,
        le=50,
    )
    limit_s: float = option(
        30.0,
        en="Seconds after which one measurement begins no further request.",
        zh="单次测量超过该秒数后不再发出新请求。",
        group="bench",
        label=("Time limit (s)", "时限（秒）"),
        gt=0,
        le=3600,
    )
    serve_options: Names = option(
        (),
        en="Options of every server, as for a server of one's own: dtype=float16, max_num_seqs=64, threads=2.",
        zh="所有服务共用的选项，写法同启动服务：dtype=float16, max_num_seqs=64, threads=2。",
        group="bench",
        label=("Server options", "服务选项"),
    )
    seed: int = option(
        0,
        en="Prompts and lengths are drawn from it; the same for every variant.",
        zh="随机种子：提示词与长度由此产生，各方式相同。",
        group="bench",
        label=("Seed", "随机种子"),
        ge=0,
        le=2**31,
    )
    run_name: str | None = option(
        None,
        en="A short name for the benchmark.",
        zh="基准测试的简短名称。",
        group="bench",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the benchmark is called where no name was given."""
        return self.run_name or f"bench {self.model_name_or_path.rstrip('/').rpartition('/')[2]}"

    @property
    def longest_output(self) -> int:
        """The most tokens that an answer may have."""
        return math.ceil(max(self.output_tokens) * (1 + self.length_spread))

    @property
    def longest(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        return max(self.prompt_tokens) + self.longest_output

    @property
    def server(self) -> dict[str, str]:
        """What `serve_options` says, by key."""
        pairs = (text.partition("=") for text in self.serve_options)
        return {key.strip(): value.strip() for key, _, value in pairs}

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        for name in self.variants:
            if wrong := _variant_problem(name):
                yield Problem("variants", f"{name!r} {wrong}")
        for key in ("variants", "concurrency", "prompt_tokens", "output_tokens"):
            values = getattr(self, key)
            if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
                yield Problem(key, f"names {twice[0]} twice")
        yield from _server_problems(self.server)


def _variant_problem(name: str) -> str | None:
    if name in KNOWN or "/" in name:
        return None
    return f"is no way to answer: take {', '.join(KNOWN)}, or the folder (with a /) of another checkpoint"


def _server_problems(given: Mapping[str, Any]) -> Iterator[Problem]:
    for key in sorted(OWN & set(given)):
        yield Problem("serve_options", f"{key} is set for each variant by the benchmark itself: leave it out")
    try:
        config = ServeConfig.model_validate(given)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield Problem("serve_options", f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}")
        return
    yield from (Problem("serve_options", f"{problem.where}: {problem.what}") for problem in config.problems())
