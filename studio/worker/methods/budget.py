"""Adapters whose ranks are pruned while they learn (AdaLoRA): the schedule, tied to the optimizer's steps."""

from __future__ import annotations

from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel
from torch import nn
from torch.optim import Optimizer

from studio.errors import ModelError

WARM_UP_SHARE = 0.1  # of the steps before the first rank is pruned
SETTLING_SHARE = 0.2  # of the steps after the last one
ORTHOGONALITY = 0.5  # weight of the pull towards orthogonal factors, which the ranks' importance is read from
FEWEST_STEPS = 10
STATE = "adalora"  # key of an optimizer's saved state


class Budget:
    """Prunes after every step. What it has seen is saved with the optimizer.

    PEFT would keep what is pruned in the adapter's configuration and leave the pruned rows out of checkpoints, though
    they may still come back; and it adds the pull to the loss, which would show there.
    """

    def __init__(self, model: PeftModel, total_steps: int) -> None:
        self._model = model
        self._allocator = model.base_model.rankallocator
        self._pattern: dict[str, list[bool]] | None = None
        self._step = 0
        adapter = self._allocator.peft_config
        adapter.total_step, adapter.orth_reg_weight = total_steps, 0.0
        adapter.tinit, adapter.tfinal = int(total_steps * WARM_UP_SHARE), int(total_steps * SETTLING_SHARE)
        self._last = total_steps - adapter.tfinal

    def pull(self, *_: Any) -> None:
        """Add the gradient of how far the factors are from orthogonal."""
        factors = [(n, w) for n, w in self._model.named_parameters() if ".lora_A." in n or ".lora_B." in n]
        for name, weight in factors:
            if weight.grad is not None:
                weight.grad += ORTHOGONALITY / len(factors) * _slope(weight, by_row=".lora_A." in name)

    def prune(self, *_: Any) -> None:
        """Look at the gradients of the step that was just made, and prune as the schedule says."""
        self._step += 1
        inner = self._model.base_model.model
        if self._step <= self._last:
            _, pattern = self._allocator.update_and_allocate(inner, self._step, force_mask=self._step == self._last)
            self._pattern = pattern or self._pattern
        elif self._pattern:
            self._allocator.mask_using_rank_pattern(inner, self._pattern)

    def save(self, _: Optimizer, whole: dict[str, Any]) -> dict[str, Any]:
        """Hook: what is saved of the optimizer, with what is known here."""
        seen = {"importance": self._allocator.exp_avg_ipt, "uncertainty": self._allocator.exp_avg_unc}
        return {**whole, STATE: {"step": self._step, "pattern": self._pattern, **seen}}

    def load(self, _: Optimizer, whole: dict[str, Any]) -> dict[str, Any]:
        """Hook: take what is known here out of what was saved of the optimizer."""
        seen = whole[STATE]
        self._step, self._pattern = seen["step"], seen["pattern"]
        places = {name: weight.device for name, weight in self._model.base_model.model.named_parameters()}
        self._allocator.exp_avg_ipt, self._allocator.exp_avg_unc = (
            {name: value.to(places[name]) for name, value in seen[key].items()} for key in ("importance", "uncertainty")
        )
        self._allocator.ipt = dict(self._allocator.exp_avg_ipt)  # the next step replaces it, but looks for its names
        return {key: value for key, value in whole.items() if key != STATE}


def fix_scales(model: PeftModel) -> None:
    """Keep the rank that an adapter is divided by as it is. PEFT, where it widens an adapter of a model in 16 bits to
    float32, has it trained by mistake; no checkpoint holds it."""
    for name, weight in model.named_parameters():
        if ".ranknum." in name:
            weight.requires_grad = False


def schedule(optimizer: Optimizer, model: PeftModel, total_steps: int) -> None:
    """Have every step of `optimizer` prune the adapter of `model`.

    Raises:
        ModelError: there are too few steps to learn what may go.
    """
    if total_steps < FEWEST_STEPS:
        what = f"{total_steps} steps are too few to learn which ranks may go; train for {FEWEST_STEPS} at least"
        raise ModelError(f"use_adalora: {what}, or set it to false")
    budget = Budget(model, total_steps)
    optimizer.register_step_pre_hook(budget.pull)
    optimizer.register_step_post_hook(budget.prune)
    optimizer.register_state_dict_post_hook(budget.save)
    optimizer.register_load_state_dict_pre_hook(budget.load)


def as_plain(weights: dict[str, torch.Tensor], adapter: AdaLoraConfig) -> tuple[dict[str, torch.Tensor], LoraConfig]:
    """A trained adapter as a plain LoRA, its singular values multiplied in; narrower modules are filled with zeros.

    Merging and serving know one rank and one scale for all modules: the largest rank, and 1.
    """
    modules = sorted({name.rpartition(".lora_")[0] for name in weights if name.endswith(".lora_E")})
    kept = {module: weights[f"{module}.lora_E"].flatten() != 0 for module in modules}
    rank = max(1, *(int(mask.sum()) for mask in kept.values()))
    scale = adapter.lora_alpha / (adapter.init_r + 1e-5)  # as PEFT has it
    plain = {name: weight for name, weight in weights.items() if ".lora_" not in name}
    for module, mask in kept.items():
        a, b, singular = (weights[f"{module}.lora_{part}"] for part in "ABE")
        missing = rank - int(mask.sum())
        plain[f"{module}.lora_A.weight"] = nn.functional.pad((a * singular)[mask], (0, 0, 0, missing))
        plain[f"{module}.lora_B.weight"] = nn.functional.pad(b[:, mask] * scale, (0, missing))
    same = ("target_modules", "layers_to_transform", "modules_to_save", "trainable_token_indices", "task_type")
    return plain, LoraConfig(r=rank, lora_alpha=rank, **{key: getattr(adapter, key) for key in same})


def _slope(weight: nn.Parameter, by_row: bool) -> torch.Tensor:
    """Gradient of the distance |P P^T - 1| of a factor P [rank, n], or [n, rank] where not `by_row`."""
    factor = weight.detach() if by_row else weight.detach().T
    rest = factor @ factor.T - torch.eye(len(factor), device=factor.device, dtype=factor.dtype)
    slope = 2 * rest @ factor / rest.norm().clamp_min(1e-12)
    return slope if by_row else slope.T
