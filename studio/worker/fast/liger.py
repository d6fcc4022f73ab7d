"""Liger's kernels for norms, rotary positions and activations, put into a loaded model on a GPU.

They are tried beside what the model's own layers computed before, forward and backward, and taken out again where they
give something else or do not run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from subprocess import SubprocessError
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from studio.config.train import TrainConfig
from studio.config.train.precision import WHOLE
from studio.errors import ModelError
from studio.planning.ways import LIGER
from studio.worker.fast import FAULTS, Path, attention, first_line

PART = "kernels"
ROTATION = "apply_rotary_pos_emb"
ACTIVATIONS = {"silu", "swish", "gelu_pytorch_tanh"}  # other gelus are too close to that to be told apart in bfloat16
TOKENS = 37  # of a probe
TOLERANCE = 0.02  # of the length of a probe's result: bfloat16 alone gives 0.004

Computing = Callable[..., Any]


def apply(model: PreTrainedModel, config: TrainConfig, precision: torch.dtype) -> Path:
    """Have `model`, whole and in its place, compute by Liger's kernels where they are right; `precision` is the type
    that it is trained in. Nothing is touched on a machine without a GPU.

    Raises:
        ModelError: they are asked for and cannot be had.
    """
    why = _obstacle(model, config) or _put(model, config, precision)
    if why and config.enable_liger_kernel:
        raise ModelError(f"enable_liger_kernel: Liger's kernels cannot be used, {why}: leave it empty")
    chosen = Path(PART, "plain", why) if why else Path(PART, "liger")
    model.kernels_path = chosen
    return chosen


def path(model: PreTrainedModel) -> Path:
    """By which kernels `model` computes since `apply`."""
    told: Path | None = getattr(model, "kernels_path", None)
    return told or Path(PART, "plain")


def _obstacle(model: PreTrainedModel, config: TrainConfig) -> str:
    """Why it need not be tried; empty if it may."""
    unknown = sorted(_activations(model) - ACTIVATIONS)
    reasons = {
        "it is switched off": config.enable_liger_kernel is False,
        f"they go with {' and '.join(WHOLE)} only": config.parallel_strategy not in WHOLE,
        f"a {model.config.model_type} model is none that they are known to be right for": not _is_known(model),
        f"they have no {', '.join(unknown)}": bool(unknown),
        "they need a GPU": model.device.type != "cuda",
        "the package liger-kernel is not installed": not (find_spec("liger_kernel") and find_spec("triton")),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _is_known(model: PreTrainedModel) -> bool:
    """A model may bring code of its own for a type that Transformers knows."""
    return model.config.model_type in LIGER and type(model).__module__.startswith("transformers.models.")


def _activations(model: PreTrainedModel) -> set[str]:
    told = (getattr(model.config, key, None) for key in ("hidden_act", "hidden_activation"))
    return {name for name in told if name}


def _put(model: PreTrainedModel, config: TrainConfig, precision: torch.dtype) -> str:
    """Why the kernels are not in `model` after all; empty if they are."""
    before = Before.of(model)
    logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # it warns of what other machines would run
    try:
        from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

        # the loss is TRL's, which never holds all logits either
        _apply_liger_kernel_to_instance(model, cross_entropy=False, fused_linear_cross_entropy=False)
        before.leave_other_models()
        with torch.autocast(model.device.type, precision, enabled=precision != torch.float32):
            why = _difference(before, model, precision, config.finetuning_type != "lora")
    except faults() as error:
        why = f"they do not run here: {first_line(error)}"
    if why:
        before.restore()
    return why


def faults() -> tuple[type[Exception], ...]:
    """What Liger's own code, Triton's compiler and the compiler behind that one end with."""
    from triton.errors import TritonError

    return (*FAULTS, OSError, SubprocessError, TritonError)


@dataclass(frozen=True)
class Before:
    """What Liger changes, as it was: the model's layers, and names in the file of its classes."""

    layers: list[tuple[nn.Module, dict[str, Any]]]
    names: dict[str, Any]
    file: ModuleType

    @classmethod
    def of(cls, model: PreTrainedModel) -> Before:
        """Of `model`, as it stands."""
        file = sys.modules[type(model).__module__]
        return cls([(layer, dict(vars(layer))) for layer in model.modules()], dict(vars(file)), file)

    @property
    def changed(self) -> list[nn.Module]:
        """The layers that compute in another way now."""
        return [layer for layer, state in self.layers if vars(layer).get("forward") is not state.get("forward")]

    def leave_other_models(self) -> None:
        """Take Liger's classes back: models that are made later have their own. Positions are rotated by a function of
        all models of a kind, some of which may lie on the CPU."""
        rotate = getattr(self.file, ROTATION)
        vars(self.file).update(self.names)
        if rotate is not self.names[ROTATION]:
            setattr(self.file, ROTATION, partial(_rotate, rotate, self.names[ROTATION]))

    def restore(self) -> None:
        """As if Liger had never been here."""
        vars(self.file).update(self.names)
        for layer, state in self.layers:
            vars(layer).clear()
            vars(layer).update(state)


def _rotate(kernel: Computing, plain: Computing, query: torch.Tensor, *others: Any, **keys: Any) -> Any:
    return (kernel if query.is_cuda else plain)(query, *others, **keys)


def _difference(before: Before, model: PreTrainedModel, precision: torch.dtype, is_whole: bool) -> str:
    """What the kernels compute otherwise on a few tokens; empty if nothing. Weights of norms have a gradient where the
    model `is_whole` in training: the kernel without is another."""
    for name, kernel, plain, states, weights in _probes(before, model, precision):
        ours, theirs = (_results(way, states, weights if is_whole else []) for way in (kernel, plain))
        # unlike Python's, the maximum of tensors is no number where one of them is none
        off = float(torch.stack([distance(*pair) for pair in zip(ours, theirs, strict=True)]).max())
        if not off < TOLERANCE:
            return f"they are off by {off:.1%} in {name} here"
    return ""


Probe = tuple[str, Computing, Computing, list[torch.Tensor], list[nn.Parameter]]


def _probes(before: Before, model: PreTrainedModel, precision: torch.dtype) -> Iterator[Probe]:
    """One layer of each kind and size, and the rotation, with states as wide as between the layers of `model`."""
    kinds = {(type(layer), *(weight.shape for weight in layer.parameters())): layer for layer in before.changed}
    draw = partial(torch.randn, device=model.device, generator=torch.Generator(model.device).manual_seed(0))
    dtype = model.get_input_embeddings().weight.dtype
    for layer in kinds.values():
        own = getattr(layer, "weight", None)
        x = draw(1, TOKENS, model.config.hidden_size if own is None else len(own)).to(dtype)
        weights = [] if own is None else [own]
        yield type(layer).__name__, layer.forward, partial(type(layer).forward, layer), [x], weights
    ways = getattr(before.file, ROTATION), before.names[ROTATION]
    if ways[0] is not ways[1]:
        kernel, plain = (partial(way, **_angles(model, dtype)) for way in ways)
        yield ROTATION, kernel, plain, [draw(*shape).transpose(1, 2).to(precision) for shape in _heads(model)], []


def _angles(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    pace = next(buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq"))
    angles = torch.arange(TOKENS, device=pace.device)[:, None] * torch.cat((pace, pace)).float()
    return {"cos": angles.cos()[None].to(dtype), "sin": angles.sin()[None].to(dtype)}


def _heads(model: PreTrainedModel) -> list[tuple[int, int, int, int]]:
    """The shapes of queries and keys, as they lie in memory."""
    config, width = model.config, attention.head_width(model.config)
    return [(1, TOKENS, count, width) for count in (config.num_attention_heads, config.num_key_value_heads)]


def _results(way: Computing, states: Iterable[torch.Tensor], weights: list[nn.Parameter]) -> list[torch.Tensor]:
    """What `way` makes of `states`, and the gradients of these and of `weights`. Kernels write into what they get."""
    given = [state.clone().requires_grad_() for state in states]
    made = way(*(state.clone() for state in given))
    results = [made] if isinstance(made, torch.Tensor) else list(made)
    slopes = [torch.arange(each.numel(), device=each.device).cos().view(each.shape).to(each) for each in results]
    kept = [result.detach().clone() for result in results]
    return [*kept, *torch.autograd.grad(results, [*given, *weights], slopes)]


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """As a share of the plain one's length."""
    return (ours.float() - theirs.float()).norm() / theirs.float().norm()
