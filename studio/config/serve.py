"""What a model server (vLLM sidecar) can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from studio.config.option import Config, option
from studio.errors import Problem


class Adapter(BaseModel):
    """A LoRA adapter under the name it is served by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str


class ServeConfig(Config):
    """One OpenAI-compatible server for one base model and any number of its adapters."""

    kind: Literal["serve"] = "serve"

    model_name_or_path: str = option(
        "seedling",
        en="The base model: seedling, a local folder, or a hub id.",
        zh="基座模型：seedling、本地文件夹或模型库 ID。",
        group="model",
        label=("Model", "模型"),
        min_length=1,
    )
    adapters: tuple[Adapter, ...] = ()
    run_name: str | None = option(None, en="A short name for the server.", zh="服务的简短名称。", group="model")
    trust_remote_code: bool = option(
        False,
        en="Run Python code that comes with the model. Only for authors you trust.",
        zh="运行模型自带的 Python 代码。仅在信任作者时开启。",
        group="server",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = option(
        "auto", en="Type of the weights while serving.", zh="推理时的权重类型。", group="server"
    )
    max_model_len: int | None = option(
        None,
        en="Longest conversation in tokens; empty means the model's own limit.",
        zh="最长对话 token 数；留空为模型上限。",
        group="server",
        ge=16,
    )
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = option(
        16, en="Largest adapter rank that can be loaded.", zh="可加载适配器的最大秩。", group="server"
    )
    max_loras: int = option(
        4, en="Adapters active at the same time.", zh="同时激活的适配器数。", group="server", ge=1, le=64
    )
    kv_cache_memory: str = option(
        "512M",
        en="Memory for the KV cache on a CPU.",
        zh="CPU 上 KV 缓存的内存。",
        group="server",
        pattern=r"^\d+[KMG]$",
    )
    gpu_memory_utilization: float = option(
        0.85,
        en="Share of the GPU's memory the server may take.",
        zh="可用显存比例。",
        group="server",
        gt=0,
        lt=1,
    )
    max_num_seqs: int = option(
        32, en="Requests answered at the same time.", zh="同时处理的请求数。", group="server", ge=1, le=4096
    )
    threads: int | None = option(
        None,
        en="CPU threads; empty lets vLLM choose.",
        zh="CPU 线程数；留空自动。",
        group="server",
        ge=1,
        le=512,
    )

    @property
    def title(self) -> str:
        """What the server is called where no name was given."""
        return self.run_name or self.model_name_or_path.rstrip("/").rpartition("/")[2]

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        names = [adapter.name for adapter in self.adapters]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Problem("adapters", f"two adapters are called {name!r}: give each its own name")
