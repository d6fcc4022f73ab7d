"""What one process holds of a model that several share, and what they need to work together, in bytes.

The shares and buffers are those of PyTorch's DDP and FSDP2 and of DeepSpeed 0.19: it keeps weights and gradients in the
type of the computation, and beside them copies in float32 that steps are made on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from studio.config.train import TrainConfig
from studio.parallel import zero
from studio.parallel.strategies import STRATEGIES
from studio.planning.parameters import Parameters
from studio.planning.precision import Precision
from studio.planning.shape import Shape, Tensor
from studio.planning.team import Team

NAMES = {2: "bfloat16", 4: "float32"}


class Spread:
    """One model, shared by the processes of one training. Sizes are of one process and its device."""

    def __init__(
        self, config: TrainConfig, shape: Shape, parameters: Parameters, precision: Precision, team: Team, on_gpu: bool
    ) -> None:
        self.config, self.shape, self.parameters, self.precision = config, shape, parameters, precision
        self.team, self.on_gpu = team, on_gpu
        self.strategy = STRATEGIES[config.parallel_strategy]
        self._is_fsdp = self.strategy.name == "fsdp2"

    # shares

    @property
    def _part(self) -> float:
        return 1 / (self.team.world * self.team.devices)

    @property
    def weights(self) -> float:
        """The share of the weights that stays on the device."""
        if not self.strategy.is_sharded:
            return 1.0
        return 0.0 if self.offloads("offload_param") else self._part

    @property
    def gradients(self) -> float:
        """The share of the gradients that stays on the device until the step."""
        if self._is_fsdp and self.offloads("offload_param"):
            return 0.0
        if self.strategy.stage >= 2 and self.offloads("offload_optimizer"):
            return 0.0
        return self._part if self.strategy.stage >= 2 or self.strategy.is_sharded else 1.0

    @property
    def states(self) -> float:
        """The share of the optimizer's states, and of what a step computes, on the device."""
        if self.offloads("offload_optimizer") or (self._is_fsdp and self.offloads("offload_param")):
            return 0.0
        return self._part if self.strategy.stage or self.strategy.is_sharded else 1.0

    @property
    def activations(self) -> float:
        """The share of what the layers keep: layers that are dealt out keep it where they are."""
        return self._part if self.strategy.name == "device_map" else 1.0

    @property
    def clears_gradients(self) -> bool:
        """Whether gradients are gone after a step. ZeRO-3 keeps a place for them."""
        return self.strategy.stage != 3

    def offloads(self, part: str) -> bool:
        """Whether `offload_optimizer` or `offload_param` leaves the device. On a CPU there is nowhere to go."""
        if not self.on_gpu:
            return False
        if self._is_fsdp:
            return part == "offload_param" and self.config.offload_param != "none"
        return self.strategy.is_deepspeed and self._place(part) != "none"

    def _place(self, part: str) -> str:
        section = self._zero.get(part)
        return str(section.get("device", "none")) if isinstance(section, Mapping) else "none"

    # what is there beside the shares

    def masters(self) -> int:
        """Bytes of the float32 copies, of all processes together."""
        return self.precision.master * self._moved

    def always(self) -> int:
        """What is there all the time for the sake of others."""
        if self.strategy.name == "ddp":  # its buckets hold all gradients once more
            return self._gradient_bytes
        return self._bucket if self.strategy.stage == 3 else 0

    def gathered(self) -> int:
        """What is whole for a while as it computes: weights of other processes, gradients on their way to them."""
        computed = self.precision.computed
        if self._is_fsdp:
            return computed * (self._outer + 2 * self._largest_layer)
        if self.strategy.stage == 3:
            return computed * self._live() if self.team.world > 1 else 0
        pair = 2 if self._zero.get("overlap_comm") else 1  # one is filled while the other travels
        return pair * self._bucket if self.strategy.is_deepspeed else 0

    def unreduced(self) -> int:
        """Gradients that are whole until they have been summed over the processes, at the end of the way back."""
        if not self._is_fsdp:
            return 0
        moved = {tensor.name for tensor in (*self.parameters.trained, *self.parameters.added)}
        outer = _size(tensor for tensor in self._outer_tensors if tensor.name in moved)
        layer = max((_size(layer) for layer in self._moved_layers), default=0)
        return (self.precision.computed + 4) * (outer + layer)  # summed in float32

    def step(self) -> tuple[int, int]:
        """Gradients of a step as DeepSpeed makes it, and what they are made from while they are made."""
        wide, narrow = 4 * self._moved * self.states, self._gradient_bytes * self.states
        return round(wide * self.step_group), round(narrow * (2 if self.clears_gradients else self.step_group))

    @property
    def step_group(self) -> float:
        """The share of its own weights that a process makes a step for at once."""
        if self.strategy.stage != 3 or not self.states:
            return 1.0
        return min(1.0, self._said("sub_group_size", 10**9) / max(1, self._moved * self.states))

    def host(self, states: int) -> int:
        """What this machine's memory holds for the devices, of all its processes; `states` are the optimizer's in all.

        At the least what the first process reads the whole model into, where no device may hold it.
        """
        held = 0.0
        if self.offloads("offload_optimizer") and self._place("offload_optimizer") == "cpu":
            held += self.masters() + states + 4 * self._moved + self._gradient_bytes  # the last is what travels
        if self.offloads("offload_param") and (self._is_fsdp or self._place("offload_param") == "cpu"):
            held += self._weight_bytes + (states + self._gradient_bytes if self._is_fsdp else 0)
        local = round(held * self.team.local / self.team.world)
        return max(local, self._weight_bytes) if self._is_fsdp and self.on_gpu else local

    @cached_property
    def _zero(self) -> Mapping[str, Any]:
        """DeepSpeed's own words for the training, complete."""
        if not self.strategy.is_deepspeed:
            return {}
        width = NAMES.get(self.precision.computed, "bfloat16")
        full = zero.filled(zero.settings(self.config), self.config, self.team.world, width, self.shape.hidden)
        section = full.get("zero_optimization", {})
        return section if isinstance(section, Mapping) else {}

    def _said(self, key: str, default: int) -> int:
        """A number of DeepSpeed's settings; what a person wrote there may be none."""
        value = self._zero.get(key)
        return int(value) if isinstance(value, int | float) else default

    @property
    def _bucket(self) -> int:
        """Bytes of DeepSpeed's place for gradients on their way, with that for the largest to leave the device."""
        size = self._said("reduce_bucket_size", zero.BUCKET)
        leaving = self._largest_tensor if self.offloads("offload_optimizer") else 0
        return (size + leaving) * self.precision.computed

    def _live(self) -> int:
        """Elements that ZeRO-3 leaves whole: what it will need again soon, which is most at the turn."""
        soon = self._said("stage3_max_reuse_distance", 10**9) // 2
        ahead = self._said("stage3_prefetch_bucket_size", 0)
        most = self._said("stage3_max_live_parameters", 10**9)
        return min(self.shape.parameters, most, soon + ahead + self._largest_tensor)

    # sizes, in elements unless they say bytes

    @cached_property
    def _moved(self) -> int:
        return _size((*self.parameters.trained, *self.parameters.added))

    @cached_property
    def _gradient_bytes(self) -> int:
        return (
            _size(self.parameters.trained) * self.precision.trained
            + _size(self.parameters.added) * self.precision.adapter
        )

    @cached_property
    def _weight_bytes(self) -> int:
        return _size(self.parameters.frozen) * self.precision.frozen + self._gradient_bytes

    @cached_property
    def _outer_tensors(self) -> list[Tensor]:
        return [tensor for tensor in self.shape.tensors if tensor.layer is None]

    @cached_property
    def _outer(self) -> int:
        return _size(self._outer_tensors)

    @cached_property
    def _largest_layer(self) -> int:
        layers = (tensors for layer, tensors in self.shape.by_layer.items() if layer is not None)
        return max((_size(layer) for layer in layers), default=0)

    @property
    def _moved_layers(self) -> list[list[Tensor]]:
        moved = (*self.parameters.trained, *self.parameters.added)
        layers = [layer for layer in self.shape.by_layer if layer is not None]
        return [[tensor for tensor in moved if tensor.layer == layer] for layer in layers]

    @cached_property
    def _largest_tensor(self) -> int:
        return max((tensor.size for tensor in self.shape.tensors), default=0)


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size for tensor in tensors)
