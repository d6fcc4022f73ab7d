"""What is wrong between stage, method and what belongs to the method."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from studio.config.option import applies, options
from studio.config.train.lora import layer_numbers
from studio.config.train.method import ONLINE
from studio.config.train.precision import WHOLE
from studio.config.train.preference import UNREFERENCED
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig

# what somebody sets to have it done; numbers that only tune something are harmless where they do not matter
SWITCHES = frozenset(
    {
        "use_rslora", "use_dora", "pissa_init", "pissa_convert", "loraplus_lr_ratio", "additional_target",
        "layers_to_transform", "use_adalora", "quantization_bit", "freeze_extra_modules", "use_llama_pro",
        "use_dft_loss", "label_smoothing_factor", "z_loss_coef", "pref_ftx", "dpo_label_smoothing", "ld_alpha",
        "ref_model", "reward_funcs", "nproc_per_node", "nnodes", "hostfile", "offload_optimizer", "offload_param",
        "nvme_path", "deepspeed", "slurm_partition", "slurm_time", "slurm_options", "micro_batch_tokens",
    }
)  # fmt: skip

MADE_WITH = ("pissa_init", "use_dora", "use_rslora", "use_adalora", "additional_target", "layers_to_transform")


def misplaced(config: TrainConfig) -> Iterator[Problem]:
    """Options that ask for something which the others leave no room for."""
    values = config.model_dump()
    for option in options(type(config)):
        if option.key in SWITCHES and values[option.key] != option.default and not applies(option, values):
            needed = ", ".join(f"{key}: {_or(wanted)}" for key, wanted in option.when.items())
            yield Problem(option.key, f"has no effect without {needed}: set that, or leave it out")


def _or(wanted: object) -> str:
    return " or ".join(map(str, wanted)) if isinstance(wanted, tuple) else str(wanted).lower()


def needs_reference(config: TrainConfig) -> bool:
    """Whether the training compares the model with what it was before."""
    if config.stage == "dpo":
        return config.pref_loss not in UNREFERENCED
    return config.stage == "kto" or (config.stage in ONLINE and config.kl_coef > 0)


def _is_lora(config: TrainConfig) -> bool:
    return config.finetuning_type == "lora"


def _noise_beside_a_reference(config: TrainConfig) -> Problem | None:
    compares = needs_reference(config) or config.stage in ONLINE
    if not (config.neftune_noise_alpha and compares):
        return None
    return Problem(
        "neftune_noise_alpha",
        f"{config.stage} compares likelihoods, which noise of its own in each blurs: leave it empty",
    )


def _one_kind_of_adapter(config: TrainConfig) -> Problem | None:
    others = [key for key in ("use_dora", "pissa_init", "use_rslora") if getattr(config, key)]
    if not (_is_lora(config) and config.use_adalora and others):
        return None
    return Problem("use_adalora", f"an adaptive rank excludes {', '.join(others)}: keep one of them")


def _width_to_prune(config: TrainConfig) -> Problem | None:
    if not (_is_lora(config) and config.use_adalora) or config.adalora_init_r is None:
        return None
    if config.adalora_init_r > config.lora_rank:
        return None
    return Problem("adalora_init_r", f"it is pruned down to lora_rank ({config.lora_rank}): start with more than that")


def _reference_below_pissa(config: TrainConfig) -> Problem | None:
    if not (_is_lora(config) and config.pissa_init and needs_reference(config)):
        return None
    instead = {"dpo": "use plain LoRA, or pref_loss: simpo or orpo", "kto": "use plain LoRA"}
    return Problem(
        "pissa_init",
        f"PiSSA changes the model below the adapter, which is then no reference for {config.stage}: "
        f"{instead.get(config.stage, 'set kl_coef: 0')}",
    )


def _quantised_below_pissa(config: TrainConfig) -> Problem | None:
    if not (_is_lora(config) and config.pissa_init and config.quantization_bit):
        return None
    return Problem(
        "pissa_init", "PiSSA takes weights apart that quantisation has rounded: leave quantization_bit empty"
    )


def _merging_into_quantised(config: TrainConfig) -> Problem | None:
    merged = len(config.adapter_name_or_path) > 1 or (config.adapter_name_or_path and config.create_new_adapter)
    if not (_is_lora(config) and config.quantization_bit and merged):
        return None
    return Problem(
        "quantization_bit",
        "adapters are not merged into quantised weights: merge them first (Export) and train on the merged model",
    )


def _adapter_to_go_on_with(config: TrainConfig) -> Problem | None:
    if not config.adapter_name_or_path or _is_lora(config):
        return None
    return Problem(
        "adapter_name_or_path",
        f"{config.finetuning_type} trains the model itself: merge the adapter first (Export), or set finetuning_type: "
        "lora",
    )


def _start_of_a_new_adapter(config: TrainConfig) -> Problem | None:
    goes_on = bool(config.adapter_name_or_path) and not config.create_new_adapter
    starts = [key for key in MADE_WITH if getattr(config, key)]
    if not (_is_lora(config) and goes_on and starts):
        return None
    what = "an adapter that is trained on stays as it was made: leave this out, or set create_new_adapter: true"
    return Problem(starts[0], what)


def _readable_layers(config: TrainConfig) -> Problem | None:
    if not (_is_lora(config) and config.layers_to_transform):
        return None
    try:
        layer_numbers(config.layers_to_transform)
    except ValueError:
        given = config.layers_to_transform
        return Problem("layers_to_transform", f"write numbers and ranges, such as 0-3,8 (got {given!r})")
    if _is_pattern(config):
        return Problem(
            "layers_to_transform", "a regular expression in lora_target names the layers itself: leave it empty"
        )
    return None


def _is_pattern(config: TrainConfig) -> bool:
    return len(config.lora_target) == 1 and not re.fullmatch(r"[\w.]+", config.lora_target[0])


def _valid_pattern(config: TrainConfig) -> Problem | None:
    if not (_is_lora(config) and _is_pattern(config)):
        return None
    try:
        re.compile(config.lora_target[0])
    except re.error as error:
        return Problem("lora_target", f"is no regular expression: {error}")
    return None


def _something_left_free(config: TrainConfig) -> Problem | None:
    if config.finetuning_type != "freeze" or config.freeze_trainable_layers or config.freeze_extra_modules:
        return None
    return Problem(
        "freeze_trainable_layers", "0 layers would train nothing: set a number, or name freeze_extra_modules"
    )


def _pro_blocks(config: TrainConfig) -> Problem | None:
    if config.finetuning_type != "freeze" or not config.use_llama_pro or config.freeze_trainable_layers > 0:
        return None
    return Problem("freeze_trainable_layers", "use_llama_pro wants the number of added blocks: set a positive number")


def _equal_rates_of_adaptive(config: TrainConfig) -> Problem | None:
    if not (_is_lora(config) and config.use_adalora and config.loraplus_lr_ratio):
        return None
    return Problem("loraplus_lr_ratio", "AdaLoRA's matrices play other parts than LoRA's: leave it empty")


def _adapters_to_fuse(config: TrainConfig) -> Problem | None:
    """What of an adapter's computation its fused way has no place for."""
    if not config.fused_lora:
        return None
    if not _is_lora(config):
        return Problem("fused_lora", "has no effect without finetuning_type: lora: set that, or leave it out")
    ways = {
        "lora_dropout": config.lora_dropout > 0,
        "use_dora": config.use_dora,
        "use_adalora": config.use_adalora,
        "quantization_bit: 8": config.quantization_bit == 8,
        f"parallel_strategy: {config.parallel_strategy}": config.parallel_strategy not in WHOLE,
    }
    others = [name for name, is_on in ways.items() if is_on]
    return Problem("fused_lora", f"is not there with {', '.join(others)}: leave one of them out") if others else None


RULES = (
    _noise_beside_a_reference,
    _one_kind_of_adapter,
    _width_to_prune,
    _equal_rates_of_adaptive,
    _reference_below_pissa,
    _quantised_below_pissa,
    _merging_into_quantised,
    _adapter_to_go_on_with,
    _start_of_a_new_adapter,
    _readable_layers,
    _valid_pattern,
    _something_left_free,
    _pro_blocks,
    _adapters_to_fuse,
)
