"""PyTorch's fully sharded training (FSDP2): every process holds its part of each weight, gathered layer by layer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from studio.errors import ParallelError
from studio.models import ModelInfo
from studio.worker.sharding import parts
from studio.worker.sharding.copies import Copies
from studio.worker.sharding.whole import Weights


class Fsdp(Copies):
    """The first process reads the weights into its memory; from there each part goes to the device that holds it."""

    is_sharded = True
    _policy: MixedPrecisionPolicy | None = None

    @property
    def kind(self) -> DistributedType:
        return DistributedType.FSDP

    def begin(self, precision: torch.dtype, info: ModelInfo) -> None:
        if precision != torch.float32 and not self.config.pure_bf16:
            # Accelerate's own policy would sum gradients, and give the loss, in half precision
            self._policy = MixedPrecisionPolicy(precision, torch.float32)
        # by these two transformers knows that only the first process reads weights, and the others wait for theirs
        os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_CPU_RAM_EFFICIENT_LOADING="true")

    def loading(self) -> dict[str, Any]:
        return {}

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        return model  # in the memory of the machine until it is in parts

    def arguments(self) -> dict[str, Any]:
        # Accelerate shards on devices of any kind, but takes processes on CPUs for copies without a word
        PartialState(cpu=not torch.cuda.is_available()).distributed_type = DistributedType.MULTI_GPU
        return {
            **super().arguments(),
            "fsdp": True,
            "fsdp_config": {"reshard_after_forward": True, "cpu_ram_efficient_loading": True},
            "accelerator_config": {"use_configured_state": True},
        }

    def check(self, trainer: Trainer) -> None:
        super().check(trainer)
        plugin = trainer.accelerator.state.fsdp_plugin
        if self._policy:
            plugin.mixed_precision_policy = self._policy
        if self.config.offload_param == "cpu":
            plugin.cpu_offload = CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
        check_model(trainer.model)
        trainer.callback_handler.callbacks.insert(0, Sharded())  # before one that calls the model, as samples do

    def consulted(self, model: PreTrainedModel) -> PreTrainedModel:
        keys: dict[str, Any] = {} if self._policy is None else {"mp_policy": self._policy}
        weights = model.state_dict() if self.rank.is_first else {}
        names = set(model._no_split_modules or ())
        for layer in [module for module in model.modules() if type(module).__name__ in names]:
            fully_shard(layer, **keys)
        fully_shard(model, **keys)
        set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
        return model

    @contextmanager
    def computing(self, model: PreTrainedModel) -> Iterator[None]:
        # on the CPU, where the weights are until they are in parts, and where flash attention does not compute
        attention, threads = model.config._attn_implementation, torch.get_num_threads()
        if attention.startswith("flash"):
            model.set_attn_implementation("sdpa")
        if self.device.type != "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // torch.cuda.device_count()))
        dtype = self._policy.param_dtype if self._policy else None
        try:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                yield
        finally:
            torch.set_num_threads(threads)
            model.set_attn_implementation(attention)

    def collected(self, model: nn.Module) -> Weights:
        return parts.collected(model, trained_only=self.config.finetuning_type == "lora")


class Sharded(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Sees to it that all weights came out in parts, and their gradients whole."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        if whole := [name for name, weight in model.named_parameters() if not isinstance(weight, DTensor)]:
            raise ParallelError(f"parallel_strategy: fsdp2 left {whole[0]} whole; the libraries' versions may not fit")
        head = model.get_output_embeddings()
        if isinstance(head, FSDPModule) and head.weight.requires_grad and _is_alone(head, model):
            # TRL computes the loss from its weight without calling it, so that nobody would sum its gradients
            raise ParallelError(
                f"parallel_strategy: fsdp2 does not find the last norm of {type(model).__name__}, beside which its "
                "head is trained: set finetuning_type: lora, or parallel_strategy: zero3"
            )


def check_model(model: PreTrainedModel) -> None:
    """See that Accelerate can put all of `model` into parts, and bring it back.

    Raises:
        ParallelError: an embedding or a head is trained beside an adapter, or something is stored that is no weight.
    """
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if any(isinstance(end, AuxiliaryTrainingWrapper) for end in ends):
        raise ParallelError(
            "parallel_strategy: fsdp2 does not train embeddings, an output head or new tokens beside an adapter: set "
            "finetuning_type: full, or parallel_strategy: ddp"
        )
    if others := model.state_dict().keys() - dict(model.named_parameters(remove_duplicate=False)).keys():
        raise ParallelError(
            f"parallel_strategy: fsdp2 cannot deal out {min(others)}, which {type(model).__name__} stores beside its "
            "weights: set parallel_strategy: zero3"
        )


def _is_alone(head: FSDPModule, model: nn.Module) -> bool:
    """Whether the weights of `head` are gathered when it is called itself, and at no other time."""
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    return [module for module in modules if module._get_fsdp_state() is head._get_fsdp_state()] == [head]
