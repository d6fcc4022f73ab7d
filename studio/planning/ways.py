"""Which of the faster ways a training will be computed by, as far as that can be told without its model: what is kept
for the way back depends on them. The worker asks the same questions of the real parts, and says what runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from studio.config.train import TrainConfig
from studio.config.train.precision import WHOLE
from studio.packages import is_installed
from studio.planning import precision
from studio.planning.shape import Shape

FLASH = ("fa2", "fa3")
FUSED = ("adamw_torch", "adamw_torch_fused")  # optimizers
WIDEST_HEAD = 256  # that the kernel of torch's variable-length attention takes
# types of models that hand lengths and windows on to their attention, and hide nothing but what those say
ATTENDING = (
    "apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma3_text", "glm", "glm4", "glm4_moe",
    "gpt_neox", "granite", "granitemoe", "helium", "hunyuan_v1_dense", "llama", "ministral", "ministral3", "mistral",
    "mixtral", "nanochat", "olmo", "olmo2", "olmo3", "opt", "phi", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3",
    "starcoder2",
)  # fmt: skip
# types of models that Liger's kernels are put into
LIGER = (
    "exaone4", "gemma", "gemma2", "gemma3_text", "glm4", "granite", "hunyuan_v1_dense", "llama", "ministral", "mistral",
    "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "smollm3",
)  # fmt: skip


@dataclass(frozen=True)
class Ways:
    """What is computed in the faster way: `attention` by the lengths of rows, without a mask of all tokens by all
    tokens; `lora` with the layer that it is on; norms and activations by Liger's `kernels`; the optimizer's `step` in
    one kernel; trained layers in float32 by `dense` copies of one pass; what runs from layer to layer as a narrow
    `stream`; passes that are recorded as `graphs`. As it stands, none."""

    attention: bool = False
    lora: bool = False
    kernels: bool = False
    step: bool = False
    dense: bool = False
    stream: bool = False
    graphs: bool = False


PLAIN = Ways()


def of(config: TrainConfig, shape: Shape, on_gpu: bool) -> Ways:
    """Those of a training as configured, on a GPU or a CPU."""
    whole = on_gpu and config.parallel_strategy in WHOLE
    kernels = whole and _kernels(config, shape)
    narrows = whole and _narrows(config, on_gpu)
    return Ways(
        attention=_attention(config, shape, on_gpu),
        lora=_lora(config, shape, on_gpu),
        kernels=kernels,
        step=whole and config.optim in FUSED,
        dense=narrows and config.parallel_strategy == "single",
        stream=narrows and kernels,
        graphs=on_gpu and _graphs(config),
    )


def _attention(config: TrainConfig, shape: Shape, on_gpu: bool) -> bool:
    if config.flash_attn in FLASH:
        return True
    takes = shape.kind in ATTENDING and not shape.attention_dropout and config.flash_attn in ("auto", "varlen")
    fits = shape.head_width <= WIDEST_HEAD and shape.head_width % 8 == 0 and precision.of(config, on_gpu).computed == 2
    return takes and (fits or not on_gpu)


def _lora(config: TrainConfig, shape: Shape, on_gpu: bool) -> bool:
    is_plain = not (config.lora_dropout or config.use_dora or config.use_adalora or shape.packed)
    unpacks = config.quantization_bit is None or (config.quantization_bit == 4 and on_gpu)
    takes = is_plain and unpacks and config.parallel_strategy in WHOLE
    return takes and config.finetuning_type == "lora" and config.fused_lora is not False


def _graphs(config: TrainConfig) -> bool:
    depends = config.lora_dropout or config.neftune_noise_alpha or config.fp16
    takes = config.stage in ("pt", "sft") and config.parallel_strategy == "single"
    return takes and config.cuda_graphs and not depends


def _narrows(config: TrainConfig, on_gpu: bool) -> bool:
    """Whether weights of the model are trained in float32 under an autocast to bfloat16."""
    held = precision.of(config, on_gpu)
    return config.finetuning_type != "lora" and not config.fp16 and held.computed < held.trained


def _kernels(config: TrainConfig, shape: Shape) -> bool:
    return shape.kind in LIGER and is_installed("liger_kernel") and config.enable_liger_kernel is not False
