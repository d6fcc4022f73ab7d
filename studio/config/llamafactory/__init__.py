"""LLaMA-Factory's keys: every one is an option here, is translated into one, has no effect here, or is refused with
what to use instead. None is ignored in silence."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from studio.config.llamafactory import distributed
from studio.config.llamafactory.inert import WITHOUT_EFFECT
from studio.config.llamafactory.refused import INSTEAD, NEUTRAL, VALUES_INSTEAD
from studio.config.llamafactory.translated import TRANSLATED, translate
from studio.errors import Problem

__all__ = ["INSTEAD", "OWN", "TRANSLATED", "VALUES_INSTEAD", "WITHOUT_EFFECT", "read", "without_effect"]

# options of this project that LLaMA-Factory does not have
OWN = frozenset(
    {
        "adalora_init_r", "epsilon", "kl_coef", "layers_to_transform", "max_completion_length", "model_author",
        "devices", "hostfile", "launcher", "nnodes", "nproc_per_node", "nvme_path",
        "offload_optimizer", "offload_param", "parallel_strategy", "resume_scope", "save_minutes", "slurm_options",
        "slurm_partition", "slurm_time",
        "model_name", "num_generations", "num_iterations", "quantization_compute_dtype", "resumed_from", "reward_funcs",
        "reward_length", "reward_pattern", "reward_weights", "sample_prompts", "sample_steps", "trust_reward_code",
        "use_adalora", "z_loss_coef", "micro_batch_tokens", "fused_lora", "cuda_graphs",
    }
)  # fmt: skip
FOREIGN = frozenset(WITHOUT_EFFECT) | frozenset(INSTEAD)


def read(values: Mapping[str, Any], options: Collection[str]) -> tuple[dict[str, Any], list[Problem]]:
    """`values` as options of this project, and what is refused of them."""
    problems = [refusal for key, value in values.items() if (refusal := _refusal(key, value))]
    problems += distributed.problems(values)
    refused = {problem.where for problem in problems}
    taken = translate({key: value for key, value in values.items() if key not in refused})
    return {key: value for key, value in taken.items() if key in options or key not in FOREIGN}, problems


def without_effect(values: Mapping[str, Any]) -> list[Problem]:
    """Keys that are left out, or done in another way, each with the reason."""
    left = [Problem(key, why) for key, why in WITHOUT_EFFECT.items() if values.get(key) not in (None, False)]
    return left + distributed.notes(values)


def _refusal(key: str, value: Any) -> Problem | None:
    if isinstance(value, str) and (instead := VALUES_INSTEAD.get((key, value))):
        return Problem(key, f"{value} is not supported; use instead: {instead}")
    if key not in INSTEAD or value in (None, False, NEUTRAL.get(key)):
        return None
    return Problem(key, f"is not supported; use instead: {INSTEAD[key]}")
