"""What a model server (vLLM sidecar, or its stand-in on Transformers) can be asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from studio import templates
from studio.config.option import Config, JsonText, option
from studio.errors import Problem

VLLM_ONLY: dict[str, Any] = {"infer_backend": ("auto", "vllm")}
# ways of quantising that people know from elsewhere -> why this is none of them
NOT_SERVED = {
    "bitsandbytes": "vLLM has given up bitsandbytes: take fp8_per_channel, or serve a GPTQ or AWQ checkpoint",
    "gguf": "GGUF files cannot be served: serve the model's safetensors",
    "mxfp8": "vLLM has no kernel for mxfp8 here: take fp8_per_channel",
    "int8_per_channel_weight_only": "it quantises the experts of MoE models only, and leaves others as they are: "
    "take fp8_per_channel, or serve a W8A8 checkpoint",
    **dict.fromkeys(
        ("awq", "gptq", "compressed-tensors"),
        "a checkpoint that is quantised already says so in its config.json: leave quantization empty",
    ),
}
# vLLM's options that have one of ours
OURS = {
    "model": "model_name_or_path", "dtype": "dtype", "max-model-len": "max_model_len", "port": "port",
    "max-lora-rank": "max_lora_rank", "max-loras": "max_loras", "max-cpu-loras": "max_loras",
    "lora-modules": "adapters", "kv-cache-memory-bytes": "kv_cache_memory",
    "gpu-memory-utilization": "gpu_memory_utilization", "device-memory-utilization": "gpu_memory_utilization",
    "max-num-seqs": "max_num_seqs", "tensor-parallel-size": "tensor_parallel_size",
    "pipeline-parallel-size": "pipeline_parallel_size", "enable-prefix-caching": "enable_prefix_caching",
    "quantization": "quantization", "kv-cache-dtype": "kv_cache_dtype", "enforce-eager": "enforce_eager",
    "chat-template": "chat_template", "tool-call-parser": "tool_call_parser",
    "enable-auto-tool-choice": "tool_call_parser", "reasoning-parser": "reasoning_parser",
    "enable-sleep-mode": "enable_sleep_mode", "trust-remote-code": "trust_remote_code",
}  # fmt: skip
# and those that would let in who has no key, or hide the server from the studio
GUARDED = frozenset((
    "host", "uds", "api-key", "served-model-name", "middleware", "root-path", "config", "enable-lora", "headless",
    "trust-request-chat-template", "generation-config", "disable-access-log-for-endpoints",
))  # fmt: skip
GUARDED_BEGINNINGS = ("allow", "ssl-")
OPTION_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


class Adapter(BaseModel):
    """A LoRA adapter under the name it is served by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str


def _known_quantization(value: Any) -> Any:
    if isinstance(value, str) and value in NOT_SERVED:
        raise ValueError(NOT_SERVED[value])
    return value


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
    infer_backend: Literal["auto", "vllm", "huggingface"] = option(
        "auto",
        en="Who answers: vLLM, or Transformers (huggingface), which is slower and can do more kinds of adapters; auto "
        "takes vLLM where it knows the model.",
        zh="推理后端：vLLM 或 Transformers（huggingface，较慢但支持更多适配器）；auto 在 vLLM 支持该模型时使用 vLLM。",
        group="model",
        label=("Backend", "推理后端"),
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = option(
        "auto",
        en="Type of the weights while serving; auto is the model's own, or float32 for a small model on a processor "
        "without AVX512, which is several times slower in bfloat16.",
        zh="推理时的权重类型；auto 为模型自身的类型，在没有 AVX512 的处理器上小模型用 float32（bfloat16 慢数倍）。",
        group="model",
        label=("Weights", "权重类型"),
    )
    quantization: Annotated[
        Literal["fp8", "fp8_per_channel", "fp8_per_block"] | None, BeforeValidator(_known_quantization)
    ] = option(
        None,
        en="Quantise the weights while they are loaded; a checkpoint that is quantised already needs nothing here. On "
        "a CPU fp8_per_channel is the one that works.",
        zh="加载时量化权重；已量化的模型无需设置。CPU 上仅支持 fp8_per_channel。",
        group="model",
        label=("Quantisation", "量化"),
        when=VLLM_ONLY,
    )
    chat_template: str | None = option(
        None,
        en="The chat template to ask with: a named one, or a .jinja file; empty means the model's own.",
        zh="对话模板：内置名称或 .jinja 文件；留空使用模型自带模板。",
        group="model",
        label=("Chat template", "对话模板"),
    )
    trust_remote_code: bool = option(
        False,
        en="Run Python code that comes with the model. Only for authors you trust.",
        zh="运行模型自带的 Python 代码。仅在信任作者时开启。",
        group="model",
        label=("Trust remote code", "信任远程代码"),
    )
    run_name: str | None = option(
        None, en="A short name for the server.", zh="服务的简短名称。", group="model", label=("Name", "名称")
    )

    max_model_len: int | None = option(
        None,
        en="Longest conversation in tokens; empty means the model's own limit.",
        zh="最长对话 token 数；留空为模型上限。",
        group="server",
        label=("Context length", "上下文长度"),
        ge=16,
    )
    max_num_seqs: int = option(
        32,
        en="Requests answered at the same time.",
        zh="同时处理的请求数。",
        group="server",
        label=("Requests at once", "并发请求数"),
        ge=1,
        le=4096,
    )
    port: int | None = option(
        None,
        en="Port on this machine (127.0.0.1); empty takes a free one.",
        zh="本机（127.0.0.1）端口；留空自动选择空闲端口。",
        group="server",
        label=("Port", "端口"),
        ge=1,
        le=65535,
    )
    idle_stop_minutes: float | None = option(
        None,
        en="Stop the server when nobody has asked it anything for so many minutes; empty keeps it up.",
        zh="连续这么多分钟没有请求时自动停止服务；留空则一直运行。",
        group="server",
        label=("Stop when idle (min)", "空闲自动停止（分钟）"),
        gt=0,
        le=10080,
    )
    threads: int | None = option(
        None,
        en="CPU threads; empty chooses for the size of the model.",
        zh="CPU 线程数；留空按模型大小自动选择。",
        group="server",
        label=("CPU threads", "CPU 线程数"),
        ge=1,
        le=512,
    )

    adapters: tuple[Adapter, ...] = ()
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = option(
        16,
        en="Largest adapter rank that can be loaded.",
        zh="可加载适配器的最大秩。",
        group="adapters",
        label=("Largest rank", "最大秩"),
        when=VLLM_ONLY,
    )
    max_loras: int = option(
        4,
        en="Adapters active at the same time.",
        zh="同时激活的适配器数。",
        group="adapters",
        label=("Adapters at once", "适配器数"),
        ge=1,
        le=64,
    )

    tensor_parallel_size: int = option(
        1,
        en="Devices that each layer is divided over (on a CPU: groups of cores).",
        zh="张量并行：每层切分到多少个设备（CPU 上为核组）。",
        group="parallel",
        label=("Tensor parallel", "张量并行"),
        when=VLLM_ONLY,
        ge=1,
        le=64,
    )
    pipeline_parallel_size: int = option(
        1,
        en="Devices that the layers are dealt out to, one after another; GPUs only.",
        zh="流水线并行：各层依次分配到多少个设备；仅限 GPU。",
        group="parallel",
        label=("Pipeline parallel", "流水线并行"),
        when=VLLM_ONLY,
        ge=1,
        le=64,
    )
    devices: str | None = option(
        None,
        en="Numbers of the GPUs to use, such as 0,1; empty takes the first ones.",
        zh="使用的 GPU 编号，例如 0,1；留空使用前几个。",
        group="parallel",
        label=("GPUs", "GPU 编号"),
        pattern=r"^\d+(,\d+)*$",
    )

    kv_cache_memory: str = option(
        "512M",
        en="Memory for the KV cache on a CPU.",
        zh="CPU 上 KV 缓存的内存。",
        group="cache",
        label=("KV cache (CPU)", "KV 缓存（CPU）"),
        when=VLLM_ONLY,
        pattern=r"^\d+[KMG]$",
    )
    gpu_memory_utilization: float = option(
        0.85,
        en="Share of the GPU's memory the server may take.",
        zh="可用显存比例。",
        group="cache",
        label=("Share of the GPU", "显存占用比例"),
        when=VLLM_ONLY,
        gt=0,
        lt=1,
    )
    enable_prefix_caching: bool = option(
        True,
        en="Keep what was computed for the beginning of a prompt, for the next that begins alike.",
        zh="前缀缓存：相同开头的提示词复用已有计算。",
        group="cache",
        label=("Prefix cache", "前缀缓存"),
        when=VLLM_ONLY,
    )
    kv_cache_dtype: Literal["auto", "fp8"] = option(
        "auto",
        en="Type of the KV cache: fp8 holds twice as many tokens and is a little less exact.",
        zh="KV 缓存类型：fp8 可容纳两倍 token，精度略低。",
        group="cache",
        label=("KV cache type", "KV 缓存类型"),
        when=VLLM_ONLY,
    )

    enforce_eager: bool | None = option(
        None,
        en="Compile nothing: a faster start, slower answers. Empty compiles on a GPU only.",
        zh="不编译：启动更快，推理更慢。留空则仅在 GPU 上编译。",
        group="advanced",
        label=("No compilation", "不编译"),
        when=VLLM_ONLY,
    )
    enable_sleep_mode: bool = option(
        False,
        en="Let the server give its GPU's memory to a training, and wake it afterwards; GPUs only.",
        zh="允许服务休眠：把显存让给训练，之后再唤醒；仅限 GPU。",
        group="advanced",
        label=("Can sleep", "可休眠"),
        when=VLLM_ONLY,
    )
    tool_call_parser: str | None = option(
        None,
        en="How the model calls tools, by vLLM's name (hermes, llama3_json, …); answers then carry them apart.",
        zh="模型的工具调用格式（vLLM 名称，如 hermes、llama3_json）；设置后回答会单独给出工具调用。",
        group="advanced",
        label=("Tool calls", "工具调用格式"),
        when=VLLM_ONLY,
    )
    reasoning_parser: str | None = option(
        None,
        en="How the model writes its thoughts, by vLLM's name (qwen3, deepseek_r1, …); then answers carry them apart.",
        zh="模型的思考格式（vLLM 名称，如 qwen3、deepseek_r1）；设置后回答会单独给出思考内容。",
        group="advanced",
        label=("Thoughts", "思考格式"),
        when=VLLM_ONLY,
    )
    vllm_args: JsonText = option(
        None,
        en='More options of vLLM, as JSON or key=value: {"max-num-batched-tokens": 4096} or block-size=16,seed=1.',
        zh='更多 vLLM 参数，JSON 或 key=value：{"max-num-batched-tokens": 4096} 或 block-size=16,seed=1。',
        group="advanced",
        label=("More options of vLLM", "更多 vLLM 参数"),
        when=VLLM_ONLY,
    )

    @property
    def title(self) -> str:
        """What the server is called where no name was given."""
        return self.run_name or self.model_name_or_path.rstrip("/").rpartition("/")[2]

    @property
    def extra(self) -> dict[str, Any]:
        """What `vllm_args` says, by vLLM's names with dashes.

        Raises:
            ValueError: it can be read neither way.
        """
        text = (self.vllm_args or "").strip()
        values = json.loads(text) if text.startswith("{") else _pairs(text)
        return {str(key).strip().lstrip("-").replace("_", "-"): value for key, value in values.items()}

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        names = [adapter.name for adapter in self.adapters]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Problem("adapters", f"two adapters are called {name!r}: give each its own name")
        if self.chat_template and (wrong := _template_problem(self.chat_template)):
            yield Problem("chat_template", wrong)
        wanted = self.tensor_parallel_size * self.pipeline_parallel_size
        if self.devices and len(set(self.devices.split(","))) < wanted:
            yield Problem("devices", f"{self.devices} names fewer GPUs than the {wanted} that the parallel sizes take")
        yield from self._argument_problems()

    def _argument_problems(self) -> Iterator[Problem]:
        try:
            extra = self.extra
        except ValueError as error:
            yield Problem("vllm_args", f"is neither a JSON object nor key=value,key=value ({error})")
            return
        for name, value in extra.items():
            if wrong := _argument_problem(name, value):
                yield Problem("vllm_args", wrong)


def _pairs(text: str) -> dict[str, Any]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for key, equals, _ in pairs:
        if not (key.strip() and equals):
            raise ValueError(f"{key.strip()!r} has no =")
    return {key: _value(value.strip()) for key, _, value in pairs}


def _value(text: str) -> Any:
    """A number or truth value means what it looks like."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _argument_problem(name: str, value: Any) -> str | None:
    plain = name.removeprefix("no-")
    if not OPTION_NAME.fullmatch(plain):
        return f"{name!r} is no name of an option"
    # vLLM takes the beginning of a name for the whole
    if ours := next((own for theirs, own in OURS.items() if theirs.startswith(plain)), None):
        return f"{name} is set by {ours}: set that instead"
    if any(each.startswith(plain) for each in GUARDED) or plain.startswith(GUARDED_BEGINNINGS):
        return f"{name} cannot be set: the server would no longer be where, or as closed as, the studio needs it"
    words = [str(word) for word in (value if isinstance(value, list) else [value])]
    if bad := next((word for word in words if word.startswith("-") and not _is_number(word)), None):
        return f"{name} has the value {bad!r}, which vLLM would take for another option"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _template_problem(name: str) -> str | None:
    return None if name.endswith(".jinja") else templates.problem(name)
