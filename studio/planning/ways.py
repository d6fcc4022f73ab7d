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
WIDEST_HEAD = 256  # that the kernel of torch's variable-length attention takes
# types of models that Liger's kernels are put into
LIGER = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")


@dataclass(frozen=True)
class Ways:
    """What is computed in the faster way: `attention` by the lengths of rows, without a mask of all tokens by all
    tokens; `lora` with the layer that it is on; norms and activations by Liger's `kernels`; the optimizer's `step` in
    one kernel. As it stands, none."""

    attention: bool = False
    lora: bool = False
    kernels: bool = False
    step: bool = False


PLAIN = Ways()


def of(config: TrainConfig, shape: Shape, on_gpu: bool) -> Ways:
    """Those of a training as configured, on a GPU or a CPU."""
    return Ways(
        _attention(config, shape, on_gpu), _lora(config, shape), _kernels(config, shape, on_gpu), _step(config, on_gpu)
    )


def _attention(config: TrainConfig, shape: Shape, on_gpu: bool) -> bool:
    if config.flash_attn in FLASH:
        return True
    is_short = precision.of(config, on_gpu).computed == 2
    takes = is_short and shape.head_width <= WIDEST_HEAD if on_gpu else True
    return takes and config.flash_attn in ("auto", "varlen") and not shape.capped


def _lora(config: TrainConfig, shape: Shape) -> bool:
    is_plain = not (config.lora_dropout or config.use_dora or config.use_adalora)
    takes = is_plain and config.quantization_bit != 8 and not shape.packed and config.parallel_strategy in WHOLE
    return takes and config.finetuning_type == "lora" and config.fused_lora is not False


def _kernels(config: TrainConfig, shape: Shape, on_gpu: bool) -> bool:
    takes = on_gpu and shape.kind in LIGER and is_installed("liger_kernel")
    return takes and config.enable_liger_kernel is not False


def _step(config: TrainConfig, on_gpu: bool) -> bool:
    return on_gpu and config.optim in ("adamw_torch", "adamw_torch_fused") and config.parallel_strategy in WHOLE
