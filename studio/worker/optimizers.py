"""Optimizers by their names, over the weights that are trained.

What an optimizer keeps must come out of its checkpoint as it went in, so that a resumed training goes on exactly.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import Trainer
from transformers.optimization import Adafactor

from studio import packages
from studio.config.train import TrainConfig
from studio.config.train.precision import WHOLE
from studio.errors import ModelError
from studio.worker.fast import adamw
from studio.worker.methods import budget

Groups = list[dict[str, Any]]
MOMENTUM = 0.9


def build(config: TrainConfig, model: Any, total_steps: int) -> Optimizer:
    """The optimizer of a training over the weights of `model` that are free to move.

    `total_steps` are those of the whole training, for what is scheduled by them.

    Raises:
        ModelError: it needs a package that is not installed, or has nothing to work on.
    """
    prunes = config.use_adalora and hasattr(model.base_model, "rankallocator")
    if prunes:
        budget.fix_scales(model)
    optimizer = OPTIMIZERS[config.optim](config, model)
    if prunes:
        budget.schedule(optimizer, model, total_steps)
    return optimizer


class Together(Optimizer):  # type: ignore[misc]  # torch is untyped here
    """Several optimizers, each with its own weights, as one. They share one state, so that it is saved as one."""

    def __init__(self, *parts: Optimizer) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> None:
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state


def _groups(config: TrainConfig, model: Any, taken: Iterable[nn.Parameter] = ()) -> Groups:
    """Weights that are free to move, but those `taken`: grouped by learning rate and weight decay."""
    without = set(taken)
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    embeddings = {each.weight for each in model.modules() if isinstance(each, nn.Embedding)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad and weight not in without:
            rate = _learning_rate(config, name, is_embedding=weight in embeddings)
            groups.setdefault((rate, config.weight_decay if name in decayed else 0.0), []).append(weight)
    return [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]


def _learning_rate(config: TrainConfig, name: str, is_embedding: bool) -> float:
    """LoRA+: the second matrix learns faster than the first, and whole embeddings at a rate of their own."""
    if config.finetuning_type != "lora" or config.loraplus_lr_ratio is None:
        return config.learning_rate
    if is_embedding or "trainable_tokens" in name:
        return config.loraplus_lr_embedding
    return config.learning_rate * (config.loraplus_lr_ratio if ".lora_B" in name else 1)


def _adamw(config: TrainConfig, model: Any, fused: bool | None) -> Optimizer:
    groups = _groups(config, model)
    kind, told = torch.optim.AdamW, None
    if groups and _fuses(config) and config.parallel_strategy == "single":
        kind, told = adamw.pick([weight for group in groups for weight in group["params"]])
    optimizer: Any = kind(groups, **_adam(config), fused=fused)
    optimizer.path = told  # which way it steps, where there are several
    optimizer.register_load_state_dict_pre_hook(_go_on_as_built)
    return optimizer


def _go_on_as_built(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's groups say how it was computed too; only what was learnt is to be taken from it."""
    groups = [
        {**saved, "fused": own["fused"]}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def _fuses(config: TrainConfig) -> bool | None:
    """True: one kernel makes the whole step, where a process has all weights on one GPU. Else as torch sees fit."""
    return (torch.cuda.is_available() and config.parallel_strategy in WHOLE) or None


def _adam(config: TrainConfig) -> dict[str, Any]:
    return {"betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon, "lr": config.learning_rate}


def _adafactor(config: TrainConfig, model: Any) -> Optimizer:
    optimizer: Optimizer = Adafactor(_groups(config, model), scale_parameter=False, relative_step=False)
    return optimizer


def _sgd(config: TrainConfig, model: Any) -> Optimizer:
    return torch.optim.SGD(_groups(config, model), lr=config.learning_rate)


def _adamw_of_bitsandbytes(config: TrainConfig, model: Any, **keys: Any) -> Optimizer:
    library = _library("bitsandbytes", config)
    optimizer: Optimizer = library.optim.AdamW(_groups(config, model), **_adam(config), **keys)
    if keys.get("optim_bits") == 8:  # embeddings are unstable with moments of 8 bits
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                library.optim.GlobalOptimManager.get_instance().register_module_override(
                    module, "weight", {"optim_bits": 32}
                )
    return optimizer


def _lion(config: TrainConfig, model: Any) -> Optimizer:
    library, betas = _library("bitsandbytes", config), (config.adam_beta1, config.adam_beta2)
    optimizer: Optimizer = library.optim.Lion(_groups(config, model), lr=config.learning_rate, betas=betas)
    return optimizer


def _muon(config: TrainConfig, model: Any) -> Optimizer:
    """Muon for the matrices inside of the model, AdamW for its ends and all that is no matrix."""
    inner = _inner(model, ("all",))
    keys = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "adjust_lr_fn": "match_rms_adamw"}
    rest = _groups(config, model, inner)
    muon = torch.optim.Muon(_require(inner, config, "all"), **keys)
    return Together(muon, torch.optim.AdamW(rest, **_adam(config))) if rest else muon


def _schedule_free_adamw(config: TrainConfig, model: Any) -> Optimizer:
    optimizer: Optimizer = _library("schedulefree", config).AdamWScheduleFree(_groups(config, model), **_adam(config))
    return optimizer


def _schedule_free_sgd(config: TrainConfig, model: Any) -> Optimizer:
    keys = {"lr": config.learning_rate, "momentum": MOMENTUM}
    optimizer: Optimizer = _library("schedulefree", config).SGDScheduleFree(_groups(config, model), **keys)
    return optimizer


def _galore(config: TrainConfig, model: Any) -> Optimizer:
    library = _library("galore_torch", config)
    projection = {
        "rank": config.galore_rank,
        "update_proj_gap": config.galore_update_interval,
        "scale": config.galore_scale,
        "proj_type": config.galore_proj_type,
    }
    groups = _projected(config, model, config.galore_target, projection)
    optimizer: Optimizer = library.GaLoreAdamW(groups, no_deprecation_warning=True, **_adam(config))
    projector = importlib.import_module("galore_torch.galore_projector").GaLoreProjector
    _keep_projections(optimizer, lambda group, _: projector(**{key: group[key] for key in projection}))
    return optimizer


def _apollo(config: TrainConfig, model: Any) -> Optimizer:
    library = _library("apollo_torch", config)
    projection = {
        "rank": config.apollo_rank,
        "update_proj_gap": config.apollo_update_interval,
        "scale": config.apollo_scale,
        "proj": config.apollo_proj,
        "scale_type": config.apollo_scale_type,
        "proj_type": "std",
    }
    groups = _projected(config, model, config.apollo_target, projection)
    optimizer: Any = library.APOLLOAdamW(groups, **_adam(config))
    _keep_projections(optimizer, optimizer._initialize_projector)
    return optimizer


def _projected(config: TrainConfig, model: Any, targets: tuple[str, ...], projection: dict[str, Any]) -> Groups:
    inner = _require(_inner(model, targets), config, ", ".join(targets))
    return [*_groups(config, model, inner), {"params": inner, "weight_decay": config.weight_decay, **projection}]


def _keep_projections(optimizer: Optimizer, make: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    """Have the projectors, which are objects, saved as what they hold, and made again from it."""

    def saved(_: Optimizer, whole: dict[str, Any]) -> dict[str, Any]:
        states = {key: _plain(state) for key, state in whole["state"].items()}
        return {**whole, "state": states}

    def loaded(optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for state in (optimizer.state[weight] for weight in group["params"]):
                if isinstance(held := state.get("projector"), dict):
                    state["projector"] = make(group, state)
                    vars(state["projector"]).update(held)

    optimizer.register_state_dict_post_hook(saved)
    optimizer.register_load_state_dict_post_hook(loaded)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    if "projector" not in state:
        return state
    # torch takes a text for a list of values and breaks it; texts are told by the group anyway
    held = {key: value for key, value in vars(state["projector"]).items() if not isinstance(value, str)}
    return {**state, "projector": held}


def _inner(model: Any, targets: tuple[str, ...]) -> list[nn.Parameter]:
    """Matrices that are trained inside of the model, not at its ends, in modules of those names."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module not in ends
        and module.weight.requires_grad
        and (targets == ("all",) or any(f".{target}." in f".{name}." for target in targets))
    ]


def _require(weights: list[nn.Parameter], config: TrainConfig, targets: str) -> list[nn.Parameter]:
    if weights:
        return weights
    raise ModelError(f"optim: {config.optim} finds no trained matrix in {targets}: name others, or take adamw_torch")


def _library(name: str, config: TrainConfig) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"optim: {config.optim} needs the package {name}: {packages.INSTALL[name]}") from error


OPTIMIZERS: dict[str, Callable[[TrainConfig, Any], Optimizer]] = {
    "adamw_torch": lambda config, model: _adamw(config, model, fused=_fuses(config)),
    "adamw_torch_fused": lambda config, model: _adamw(config, model, fused=True),
    "adamw_8bit": lambda config, model: _adamw_of_bitsandbytes(config, model, optim_bits=8),
    "paged_adamw_32bit": lambda config, model: _adamw_of_bitsandbytes(config, model, is_paged=True),
    "paged_adamw_8bit": lambda config, model: _adamw_of_bitsandbytes(config, model, optim_bits=8, is_paged=True),
    "adafactor": _adafactor,
    "lion_32bit": _lion,
    "sgd": _sgd,
    "muon": _muon,
    "schedule_free_adamw": _schedule_free_adamw,
    "schedule_free_sgd": _schedule_free_sgd,
    "galore_adamw": _galore,
    "apollo_adamw": _apollo,
}
