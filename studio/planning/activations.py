"""What autograd keeps of a pass through the layers of a decoder until the way back, in bytes.

The products of a layer, in order: a norm, the attention's inputs, the attention itself, its output, a norm, the
feed-forward part's inputs, its activation, its output. Frozen matrices keep nothing; those with an adapter or in
training keep their input.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from studio.config.train import TrainConfig
from studio.planning.batch import Batch
from studio.planning.parameters import Parameters
from studio.planning.precision import Precision
from studio.planning.shape import Shape, Tensor
from studio.planning.spread import Spread
from studio.planning.ways import Ways

ATTENTION_OUT = ("o_proj", "out_proj", "dense", "c_proj", "wo")
FEED_FORWARD_OUT = ("down_proj", "fc2", "c_proj", "dense_4h_to_h", "w2")


@dataclass(frozen=True)
class Work:
    """All that decides what a training holds while it computes."""

    config: TrainConfig
    shape: Shape
    parameters: Parameters
    precision: Precision
    batch: Batch
    spread: Spread
    ways: Ways

    @cached_property
    def stream(self) -> int:
        """Bytes an element of what runs from layer to layer: the type of the embedding, if that is not narrowed."""
        if self.ways.stream:
            return self.precision.computed
        trained = any(tensor.is_embedding for tensor in self.parameters.trained)
        return self.precision.used if trained else self.precision.frozen

    @cached_property
    def learning(self) -> frozenset[str]:
        """Names of the matrices and norms of the model that are trained or have an adapter."""
        return self.parameters.targets | {tensor.name for tensor in self.parameters.trained}

    @cached_property
    def live_layers(self) -> list[int]:
        """Layers that gradients go back through: from the first with something to train, or all."""
        names = [*self.parameters.trained, *self.parameters.added]
        places = [tensor.layer for tensor in names]
        outer = any(tensor.is_embedding for tensor in names)
        known = [place for place in places if place is not None]
        first = 0 if outer else min(known, default=self.shape.layers)
        return list(range(first, self.shape.layers))


def layers_bytes(work: Work, recomputed: int = 0) -> int:
    """Kept of all layers at once, but of the first so many, which are computed again, only what goes into each."""
    whole = sum(layer_bytes(work, layer) for layer in work.live_layers if layer >= recomputed)
    return whole + inputs_bytes(work, recomputed)


def inputs_bytes(work: Work, recomputed: int) -> int:
    """What goes into the first so many layers."""
    layers = recomputed if work.config.finetuning_type == "lora" else min(recomputed, len(work.live_layers))
    return layers * work.stream * work.shape.hidden * work.batch.tokens


def layer_bytes(work: Work, layer: int) -> int:
    """Kept of one layer for the tokens of the batch."""
    of_token = sum((_norms(work, layer), _inputs(work, layer), _attention(work), _feed_forward(work)))
    return of_token * work.batch.tokens + _mask_bytes(work)


def passing_bytes(work: Work) -> int:
    """Gradients between the products of one layer, on the way back through its widest part."""
    return _wide(work) * work.shape.intermediate * work.batch.tokens


def _wide(work: Work) -> int:
    """Bytes for each feed-forward element: gradients of the activation, its factors and, through an adapter, casts.
    Liger writes the factors' over what it kept."""
    gradients = 1 if work.ways.kernels else 3
    return gradients * work.precision.computed + (4 if _is_private(work) else 0)


def _norms(work: Work, layer: int) -> int:
    shape, own = work.shape, work.shape.by_layer.get(layer, ())
    wide = sum(tensor.shape == (shape.hidden,) and tensor.name.endswith(".weight") for tensor in own)
    modules = {tensor.module for tensor in own}
    by_head = [width for name, width in (("q_norm", shape.query), ("k_norm", shape.keys)) if name in modules]
    elements = wide * shape.hidden + sum(by_head)
    if work.ways.kernels:  # the input, and a number for each row of it
        rows = wide + sum(by_head) // shape.head_width
        return elements * work.stream + 4 * rows
    trained = any(len(tensor.shape) == 1 and tensor.name in work.learning for tensor in own)
    return elements * (4 + (work.stream if trained else 0))  # computed in float32


def _inputs(work: Work, layer: int) -> int:
    """The inputs of matrices that need them: each its own copy where they are cast for it, else one for several."""
    learning = [each for each in work.shape.by_layer.get(layer, ()) if each.is_linear and each.name in work.learning]
    kept = Counter(_role(tensor) for tensor in learning)
    inputs = sum(_input(work, layer, role, matrices) for role, matrices in kept.items())
    return inputs + sum(_beside(work, tensor) for tensor in learning)


def _beside(work: Work, tensor: Tensor) -> int:
    """Between the two halves of an adapter; DoRA keeps both results that it scales."""
    if tensor.name not in work.parameters.targets:
        return 0
    computed = work.precision.computed
    return computed * (work.config.lora_rank + (2 * tensor.shape[0] if work.config.use_dora else 0))


def _role(tensor: Tensor) -> str:
    if "attn" in tensor.name or "attention" in tensor.name:
        return "attention out" if tensor.module in ATTENTION_OUT else "attention in"
    return "feed-forward out" if tensor.module in FEED_FORWARD_OUT else "feed-forward in"


def _input(work: Work, layer: int, role: str, matrices: int) -> int:
    computed, shape = work.precision.computed, work.shape
    width = {"attention out": shape.query, "feed-forward out": shape.intermediate}.get(role, shape.hidden)
    if _is_private(work):
        return matrices * width * (computed + (1 if work.config.lora_dropout else 0))
    if work.config.lora_dropout and work.parameters.targets:
        return matrices * width * (computed + 1)
    if role == "attention out":
        return 0  # the attention keeps it already
    cast = role.endswith(" in") and not work.ways.lora and _is_cast(work, layer)
    return (matrices if cast else 1) * width * computed


def _is_private(work: Work) -> bool:
    """Whether each adapter casts its input for itself. Above quantised weights PEFT leaves that to autocast."""
    wider = work.precision.adapter > work.precision.computed
    shared = work.ways.lora or work.config.quantization_bit or work.shape.packed
    return wider and bool(work.parameters.targets) and not shared


def _is_cast(work: Work, layer: int) -> bool:
    """Whether a norm puts out more than is computed with, so that each matrix behind it casts its input for itself.
    Liger's put out the type of their input."""
    if work.ways.kernels:
        return work.stream > work.precision.computed
    trained = any(len(each.shape) == 1 and each.name in work.learning for each in work.shape.by_layer.get(layer, ()))
    return max(work.stream, work.precision.used if trained else 0) > work.precision.computed


def _attention(work: Work) -> int:
    shape, computed = work.shape, work.precision.computed
    repeated = work.batch.masked and not work.ways.attention
    sides = 2 * (shape.query if repeated else shape.keys)
    kept = computed * (2 * shape.query + sides) + 4 * shape.heads
    if work.config.flash_attn == "disabled":  # every pair of tokens, before and after the softmax's cast
        kept += (4 + computed) * shape.heads * work.batch.span
    return kept


def _feed_forward(work: Work) -> int:
    """Both factors, and one of them activated, which Liger computes again."""
    factors = (2 if work.ways.kernels else 3) if work.shape.gated else 1
    return factors * work.precision.computed * work.shape.intermediate


def _mask_bytes(work: Work) -> int:
    """The mask as the attention adds it, in every layer anew."""
    if not work.batch.masked or work.ways.attention:
        return 0
    return work.precision.computed * work.batch.tokens * work.batch.span
