"""Weights and optimizer states of a model in parts, to and from the files of a checkpoint.

Weights lie there as one process would leave them, for everyone to read. States of the optimizer, twice as large, lie in
parts as the processes had them, in the format of torch.distributed.checkpoint: it deals them out anew to any number of
processes, and to one that holds all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed import checkpoint as storage
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import distribute_tensor
from torch.optim import Optimizer
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer import OPTIMIZER_NAME

from studio import models
from studio.errors import NotResumable
from studio.worker.sharding.parted import STATES
from studio.worker.sharding.whole import Weights


def save_states(model: nn.Module, optimizer: Optimizer, folder: Path) -> None:
    """Write the states of `optimizer` into the checkpoint `folder`, every process its part."""
    storage.save({STATES: get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder / STATES)


def collected(model: nn.Module, trained_only: bool) -> Weights:
    """Whole weights by their names, tied ones once, on the CPU of the first process; nothing in the others."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    weights: Weights = get_model_state_dict(model, options=options)
    ties = dict(model.named_parameters(remove_duplicate=False)).keys() - dict(model.named_parameters()).keys()
    return {name: weight for name, weight in weights.items() if name not in ties}


def load_weights(model: nn.Module, folder: Path) -> None:
    """Deal out the weights of the checkpoint `folder`, which the first process reads.

    Raises:
        NotResumable: it has weights that `model` has not.
    """
    weights = stored(model, folder) if distributed.get_rank() == 0 else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, weights, options=options)


def load_states(model: nn.Module, optimizer: AcceleratedOptimizer, folder: Path) -> None:
    """Give `optimizer`, a new one, its states in the checkpoint `folder`, whole ones or in parts."""
    optimizer.train()  # a schedule-free one makes states in no other mode,
    optimizer.state.clear()  # and has empty ones now, where torch fills in no others
    if (folder / STATES).is_dir():
        states = {STATES: get_optimizer_state_dict(model, optimizer)}
        storage.load(states, checkpoint_id=folder / STATES)
        set_optimizer_state_dict(model, optimizer, states[STATES])
    else:
        whole = torch.load(folder / OPTIMIZER_NAME, weights_only=True, mmap=True)
        _deal_out(whole["state"], [weight for group in optimizer.param_groups for weight in group["params"]])
        optimizer.load_state_dict(whole)


def stored(model: nn.Module, folder: Path) -> Weights:
    """The weights in the files of `folder` by their names in `model`."""
    weights: Weights = {}
    is_adapter = isinstance(model, PeftModel)
    for file in [SAFETENSORS_WEIGHTS_NAME] if is_adapter else models.weight_files(folder):
        weights.update(load_file(folder / file))
    if is_adapter:
        names = _adapter_names(model)
        weights = {names.get(key, key): weight for key, weight in weights.items()}
    unknown = sorted(weights.keys() - model.state_dict().keys())
    if unknown and not (is_adapter or is_deepspeed_zero3_enabled()):
        return _converted(model, folder)
    if unknown:
        raise NotResumable(f"{folder} does not fit the model: it has weights for {unknown[0]}")
    return weights


def _converted(model: nn.Module, folder: Path) -> Weights:
    """The weights in `folder`, which files name and cut in another way than `model`, such as those of experts."""
    kind: Any = type(model).__mro__[2] if isinstance(model, FSDPModule) else type(model)
    # float32 holds whatever is there, and `model` rounds it to its own types
    weights: Weights = kind.from_pretrained(folder, dtype=torch.float32).state_dict()
    return weights


def _adapter_names(model: PeftModel) -> dict[str, str]:
    """Names in the model of what PEFT leaves out the adapter's name of in files."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    saved = get_peft_model_state_dict(model, trained, adapter_name="default", save_embedding_layers=False)
    names = {id(weight): name for name, weight in trained.items()}
    return {key: names[id(weight)] for key, weight in saved.items()}


def _deal_out(states: dict[int, dict[str, Any]], weights: list[nn.Parameter]) -> None:
    """Have each process keep of the states, which are numbered as their weights are, what it keeps of those."""
    for number, state in states.items():
        weight = weights[number].data
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                state[name] = distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)
