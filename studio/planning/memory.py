"""The memory that a training takes on its device, worked out from the shapes of the model.

What is counted is what the libraries of the worker hold: PyTorch's autograd and autocast, PEFT's adapters, TRL's output
head. bench/memory.py holds it against real trainings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE
from studio.config.train.rules import needs_reference
from studio.machine import GB
from studio.planning import head, optimizer, parameters, precision, ways
from studio.planning.activations import Work, inputs_bytes, layer_bytes, layers_bytes, passing_bytes
from studio.planning.batch import Batch
from studio.planning.shape import Shape
from studio.planning.spread import Spread
from studio.planning.team import ALONE, Team
from studio.planning.ways import Ways

Moment = dict[str, int]  # bytes beside what is always there, by part
CUDA_CONTEXT_GB = 0.7
SLACK = 0.04  # of the tensors: what the allocator holds beside them
PROCESS_GB = 0.75  # Python with the training libraries, where the model shares its memory


@dataclass(frozen=True)
class Memory:
    """GB (1e9 bytes) at the fullest moment of a training, by what they are for.

    Of several processes, those of one. `reference` are models beside the one that is trained; `communication` is what
    travels between processes, and what is gathered from them; `context` is what the device and the libraries take, and
    the gaps between tensors.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    reference: float
    communication: float
    context: float

    @property
    def total_gb(self) -> float:
        return self.tensors_gb + self.context

    @property
    def tensors_gb(self) -> float:
        """All but the context: what PyTorch calls allocated."""
        learning = self.weights + self.gradients + self.optimizer
        return learning + self.activations + self.logits + self.reference + self.communication


def estimate(
    config: TrainConfig,
    shape: Shape,
    batch: Batch,
    on_gpu: bool,
    recomputed: int,
    team: Team = ALONE,
    by: Ways | None = None,
) -> Memory:
    """What one process of `team` needs for batches like `batch`, the first so many layers of which are computed twice.

    `by` which ways; None for those that the configuration lets expect.
    """
    return fullest(work_of(config, shape, batch, on_gpu, team, by), recomputed)


def fullest(work: Work, recomputed: int) -> Memory:
    """The fullest moment of such a training."""
    always = resting(work)
    context = CUDA_CONTEXT_GB if work.spread.on_gpu else PROCESS_GB + _pairs(work) / GB
    moments = [_end(work), _step(work), _writing(work), _turning(work, recomputed)]
    moments += [_again(work, recomputed)] if recomputed else []
    most = max((replace(always, **_added(always, moment)) for moment in moments), key=lambda each: each.tensors_gb)
    return replace(most, context=context + SLACK * most.tensors_gb)


def resting(work: Work) -> Memory:
    """What is there at any time, between two steps too."""
    return Memory(
        weights=(weights(work) * work.spread.weights + _copies(work)) / GB,
        gradients=(_gradients(work) - _coming(work)) / GB,
        optimizer=(_states(work) + work.spread.masters()) * work.spread.states / GB,
        activations=0.0,
        logits=0.0,
        reference=_reference(work) / GB,
        communication=work.spread.always() / GB,
        context=0.0,
    )


def host_gb(config: TrainConfig, shape: Shape, batch: Batch, on_gpu: bool, team: Team) -> float:
    """What the memory of this machine holds for its devices, of all processes here; 0 where nothing leaves them."""
    work = work_of(config, shape, batch, on_gpu, team)
    return work.spread.host(_states(work)) / GB


def work_of(
    config: TrainConfig, shape: Shape, batch: Batch, on_gpu: bool, team: Team = ALONE, by: Ways | None = None
) -> Work:
    """All that decides what one process of `team` holds."""
    of, held = parameters.of(config, shape), precision.of(config, on_gpu)
    spread = Spread(config, shape, of, held, team, on_gpu)
    return Work(config, shape, of, held, batch, spread, by or ways.of(config, shape, on_gpu))


def _pairs(work: Work) -> int:
    """The mask of a flat batch comes of comparing two tables of 64-bit numbers, one entry for each pair of tokens. On a
    GPU they are gone before anything else is there; in the memory of a process they showed in the peak."""
    return 2 * 8 * work.batch.tokens * work.batch.span if work.batch.masked and not work.ways.attention else 0


def _added(always: Memory, moment: Moment) -> dict[str, float]:
    return {part: getattr(always, part) + size / GB for part, size in moment.items()}


def _turning(work: Work, recomputed: int) -> Moment:
    """The end of the way forth and the begin of the way back, when most activations are there."""
    logits = head.head_bytes(work)
    kept = round(layers_bytes(work, recomputed) * work.spread.activations) + cast_weights(work)
    passing = passing_bytes(work) if recomputed < work.shape.layers else 0
    return {"activations": kept + max(0, passing - logits), "logits": logits, **_beside(work)}


def _again(work: Work, recomputed: int) -> Moment:
    """The way back through a layer that is computed again."""
    inputs = round(inputs_bytes(work, recomputed) * work.spread.activations)
    one = layer_bytes(work, work.live_layers[-1]) if work.live_layers else 0
    return {"activations": inputs + one + passing_bytes(work), **_beside(work)}


def _writing(work: Work) -> Moment:
    """Online stages have the model write the answers of a whole step, which keeps keys and values of all tokens."""
    if work.config.stage not in ONLINE:
        return {}
    tokens = work.batch.tokens * work.config.gradient_accumulation_steps
    return {"activations": 2 * work.shape.layers * work.shape.keys * work.precision.computed * tokens}


def _beside(work: Work) -> Moment:
    """Gradients of earlier passes, and weights that are whole for a while."""
    accumulates = work.config.gradient_accumulation_steps > 1
    return {"gradients": _coming(work) if accumulates else 0, "communication": work.spread.gathered()}


def _end(work: Work) -> Moment:
    """The end of the way back: all gradients, and the last layer's activations."""
    live = work.live_layers
    one = layer_bytes(work, live[0]) if live else 0
    gathered = work.spread.gathered() + work.spread.unreduced()
    return {"activations": one + passing_bytes(work), "gradients": _finished(work), "communication": gathered}


def _finished(work: Work) -> int:
    """ZeRO-2 sums a pass's gradients up before it adds them to those of earlier passes."""
    twice = work.spread.strategy.stage == 2 and work.config.gradient_accumulation_steps > 1
    return _coming(work) * (2 if twice else 1)


def _step(work: Work) -> Moment:
    moved = (*work.parameters.trained, *work.parameters.added)
    wide = work.precision.master or work.precision.trained
    scratch = 0 if work.ways.step else optimizer.scratch_bytes(work.config, moved, wide)
    own = round(scratch * work.spread.states * work.spread.step_group)
    if not work.spread.strategy.is_deepspeed:
        return {"gradients": _coming(work), "optimizer": own}
    gradients, made_from = work.spread.step()
    return {"gradients": gradients, "optimizer": max(own, made_from)}


def _coming(work: Work) -> int:
    """Gradients that a pass makes room for; recorded ones keep it."""
    return _gradients(work) if work.spread.clears_gradients and not work.ways.graphs else 0


def _gradients(work: Work) -> int:
    """Those that stay on the device."""
    held, of = work.precision, work.parameters
    every = of.trained_size * held.trained + of.added_size * held.adapter
    return round(every * work.spread.gradients)


def _states(work: Work) -> int:
    """Of all processes together."""
    master, of = work.precision.master, work.parameters
    trained = optimizer.state_bytes(work.config, of.trained, master or work.precision.trained)
    return trained + optimizer.state_bytes(work.config, of.added, master or work.precision.adapter)


def cast_weights(work: Work) -> int:
    """Bytes of cast matrices: autocast keeps them until the end of the way forth, autograd until they are passed, and
    fused adapters have theirs of a pass in one piece."""
    held, of = work.precision, work.parameters
    adapters = of.added_size * held.computed if work.ways.lora and held.computed < held.adapter else 0
    if held.computed >= held.used or work.ways.dense:
        return adapters
    return adapters + sum(tensor.size for tensor in of.trained if tensor.is_linear) * held.computed


def _copies(work: Work) -> int:
    """Bytes of narrow matrices that stay from pass to pass."""
    takes_head = head.is_copied(work)
    linear = sum(
        tensor.size for tensor in work.parameters.trained if tensor.is_linear or (takes_head and tensor.is_head)
    )
    return linear * work.precision.computed if work.ways.dense else 0


def weights(work: Work) -> int:
    """Bytes of all weights on the device, those of the model and of what is put on it."""
    held, of = work.precision, work.parameters
    frozen = sum(_frozen_bytes(work, tensor.is_linear, tensor.size, tensor.bytes) for tensor in of.frozen)
    return frozen + of.trained_size * held.trained + of.added_size * held.adapter


def _frozen_bytes(work: Work, is_linear: bool, size: int, stored: int) -> int:
    if work.shape.packed:
        return stored
    if not (is_linear and work.config.quantization_bit):
        return size * work.precision.frozen
    if work.config.quantization_bit == 8:
        return size
    # a scale for 64 weights, of 32 bits or of 8 with a scale of its own for 256 of them
    return size // 2 + (size // 64 + size // 64 // 64 if work.config.double_quantization else size // 16)


def _reference(work: Work) -> int:
    """Models beside the trained one: a reference, which below an adapter is the model itself, and a reward model."""
    config, compared = work.config, needs_reference(work.config)
    share = work.spread.weights if work.spread.strategy.is_sharded else 1.0
    other = round(work.shape.parameters * work.precision.computed * share)  # of another model one knows no more
    judge = other if config.stage in ONLINE and config.reward_model else 0
    if compared and config.ref_model:
        return other + judge
    return judge + (round(weights(work) * share) if compared and config.finetuning_type != "lora" else 0)
