"""DeepSpeed's ZeRO: optimizer states, gradients and weights are dealt out to the processes."""

from __future__ import annotations

import ctypes.util
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
from accelerate.utils import DistributedType
from deepspeed.runtime.zero import GatheredParameters
from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param
from torch import nn
from transformers import PreTrainedModel, trainer
from transformers.integrations import HfDeepSpeedConfig

from studio.errors import ModelError, NotResumable
from studio.files import read_record, write_json
from studio.models import ModelInfo
from studio.parallel import zero
from studio.parallel.strategies import STRATEGIES
from studio.runs.checkpoints import Manifest
from studio.runs.resumption import WITH_OPTIMIZER
from studio.worker.sharding import parts, universal
from studio.worker.sharding.copies import Copies
from studio.worker.sharding.whole import Weights

RECORD = "deepspeed.json"  # in the run directory: the settings that the training runs with


class Zero(Copies):
    """Stages 1 to 3; in the third, no process holds all weights."""

    _settings: zero.Settings
    _loading: HfDeepSpeedConfig  # from_pretrained deals out the weights for as long as this lives

    @property
    def is_sharded(self) -> bool:  # type: ignore[override]
        return STRATEGIES[self.config.parallel_strategy].is_sharded

    @property
    def kind(self) -> DistributedType:
        return DistributedType.DEEPSPEED

    def prepare(self) -> None:
        super().prepare()
        warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)  # DeepSpeed's calls, at every layer
        # sums through shared memory would be compiled first, which takes a compiler and 17 s; gloo needs neither
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # without this DeepSpeed reckons with one process while the weights are dealt out
        deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), auto_mpi_discovery=False)

    def begin(self, precision: torch.dtype, info: ModelInfo) -> None:
        described = read_record(info.path / "config.json")
        hidden = (described.get("text_config") or described).get("hidden_size", 1024)
        name = str(precision).removeprefix("torch.")
        grows = self.config.resize_vocab or self.config.add_tokens or self.config.add_special_tokens
        if self.is_sharded and self.config.finetuning_type == "lora" and grows and self.device.type == "cpu":
            raise ModelError("zero3 trains new tokens beside an adapter on GPUs only: set parallel_strategy: zero2")
        self._settings = zero.filled(zero.settings(self.config), self.config, self.rank.world, name, hidden)
        _require_tools(self._settings)
        if self.rank.is_first:
            write_json(self.run_dir / RECORD, self._settings)
        self._loading = HfDeepSpeedConfig(self._settings)
        trainer.deepspeed_load_checkpoint = self.load  # transformers' own knows the same processes only

    def loading(self) -> dict[str, Any]:
        return {} if self.is_sharded else super().loading()

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        if not self.is_sharded:
            return super().place(model)
        for buffer in model.buffers():
            buffer.data = buffer.data.to(self.device)
        return model

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "deepspeed": self._settings}

    def rows(self, weight: nn.Parameter) -> int:
        return int(getattr(weight, "ds_shape", weight.shape)[0])

    def copied(self, model: PreTrainedModel) -> PreTrainedModel:
        if not self.is_sharded:
            return super().copied(model)
        attention, trusts = model.config._attn_implementation, self.config.trust_remote_code
        other = type(model).from_pretrained(
            model.name_or_path, dtype=model.dtype, attn_implementation=attention, trust_remote_code=trusts
        )
        return self.place(other)

    @contextmanager
    def computing(self, model: nn.Module) -> Iterator[None]:
        owners = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
        handles = [handle for module in owners for handle in _whole_while_called(module)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def collected(self, model: nn.Module) -> Weights:
        """See Sharding; as wide as the optimizer has them."""
        lora = self.config.finetuning_type == "lora"
        # the weights below an adapter of PiSSA are no longer those of its base
        everything = not lora or self.config.pissa_init
        named = [
            (name, weight)
            for name, weight in model.named_parameters(remove_duplicate=not lora)  # PEFT wants what is tied twice
            if everything or weight.requires_grad
        ]
        whole = {id(weight): self._on_first(weight) for _, weight in named}
        return {name: whole[id(weight)] for name, weight in named} if self.rank.is_first else {}

    def _on_first(self, weight: nn.Parameter) -> torch.Tensor:
        whole = self._wide(weight).detach()
        return whole.to("cpu", copy=True) if self.rank.is_first else torch.empty(0)

    def _wide(self, weight: nn.Parameter) -> torch.Tensor:
        """A whole weight; of a trained one, what the optimizer works on."""
        if weight.requires_grad and (wide := safe_get_full_fp32_param(weight)) is not None:
            return wide
        with GatheredParameters([weight]):
            return weight.detach().clone()

    def load(self, engine: Any, checkpoint: str, load_module_strict: bool = True) -> None:
        """Give the engine what the run goes on with of a checkpoint, whichever processes wrote it."""
        folder, takes_states = Path(checkpoint), self.config.resume_scope in WITH_OPTIMIZER
        on_disk = zero.is_on_disk(self._settings)
        if on_disk and takes_states and engine.global_steps == 0:
            raise NotResumable(
                "DeepSpeed does not bring back what was offloaded to an NVMe disk: take resume_scope: weights"
            )
        is_own = self._is_own(folder)
        if on_disk or not (is_own or (takes_states and universal.shards(folder))):
            self._load_weights(engine.module, folder)
            return
        if not is_own:
            folder = self._in_universal_form(folder)
        decays = [group["weight_decay"] for group in engine.optimizer.param_groups]
        engine._config.load_universal_checkpoint = not is_own
        with universal.plainly_named(folder) as (plain,):
            engine.load_checkpoint(
                str(plain), load_module_strict=load_module_strict, load_optimizer_states=takes_states
            )
        # from a universal checkpoint all groups get the decay of the first, and one and the same count of steps
        for group, decay in zip(engine.optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        for state in engine.optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].clone()

    def _is_own(self, checkpoint: Path) -> bool:
        """Whether as many processes wrote it in the same way."""
        manifest, third = Manifest.read(checkpoint), self.is_sharded
        if manifest is None or not universal.shards(checkpoint):
            return False
        return manifest.world_size == self.rank.world and (manifest.strategy == "zero3") == third

    def _in_universal_form(self, checkpoint: Path) -> Path:
        target = self.run_dir / "tmp/universal" / checkpoint.name
        if self.rank.is_first and not target.exists():
            universal.convert(checkpoint, target)
        universal.wait(target)
        return target

    def _load_weights(self, model: nn.Module, checkpoint: Path) -> None:
        weights = dict(model.named_parameters())
        for name, value in parts.stored(model, checkpoint).items():
            if name in weights:
                self._set(weights[name], value)

    def _set(self, weight: nn.Parameter, value: torch.Tensor) -> None:
        with GatheredParameters([weight], modifier_rank=0):  # what the first process does stays
            weight.data.copy_(value)
        if weight.requires_grad:
            safe_set_full_fp32_param(weight, value.to(self.device, torch.float32))


def _require_tools(settings: zero.Settings) -> None:
    """What DeepSpeed compiles to write to an NVMe disk, which takes minutes the first time, needs these.

    Raises:
        ModelError: with what to install.
    """
    if not zero.is_on_disk(settings):
        return
    found = {
        "g++": shutil.which("g++"),
        "ninja-build": shutil.which("ninja"),
        "libaio-dev": ctypes.util.find_library("aio"),
    }
    if missing := [package for package, place in found.items() if not place]:
        raise ModelError(
            f"offloading to nvme needs {', '.join(missing)}: apt-get install {' '.join(missing)}, or set cpu"
        )


def _whole_while_called(module: nn.Module) -> Iterator[Any]:
    """Hooks that gather the module's own weights for the time of its forward pass."""
    whole = GatheredParameters(list(module.parameters(recurse=False)))
    yield module.register_forward_pre_hook(lambda *_: whole.__enter__())
    yield module.register_forward_hook(lambda *_: whole.__exit__(None, None, None))
