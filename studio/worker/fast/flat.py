"""Padded batches, computed without their padding.

TRL pads rows to the longest and keeps to that shape in its losses and figures; the model sees the tokens alone, end to
end in one row, and its head those alone that are learnt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel

from studio.worker.encode import IGNORED
from studio.worker.fast import attention, head
from studio.worker.samples import evaluating

PLACES = "token_places"  # of a batch: where in it, counted row by row, its tokens are [tokens]
COUNTED = "counted"  # which of them are followed by one that is learnt [n]
OTHER = "KL_"  # of KTO's batches are answers to other prompts
TOLD = (PLACES, COUNTED, OTHER + PLACES, OTHER + COUNTED)
TOLERANCE = 0.05  # of the log-probabilities' spread, on average


@dataclass(frozen=True)
class Placing:
    """`collate`, whose batches say where their tokens are: asked on the device, it would have to be waited for."""

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collate(rows)
        for side in ("", OTHER) if f"{OTHER}input_ids" in batch else ("",):
            places, counted = _places(batch[f"{side}attention_mask"], batch[f"{side}completion_mask"])
            batch |= {side + PLACES: places, side + COUNTED: counted}
        return batch


def other_side(batch: dict[str, Any]) -> dict[str, Any]:
    """`batch`, of which the answers to other prompts are to be computed."""
    return {**batch, **{name: batch[OTHER + name] for name in (PLACES, COUNTED) if name in batch}}


def _places(mask: torch.Tensor, learnt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    places = mask.flatten().nonzero()[:, 0]
    ahead = pad(learnt[:, 1:], (0, 1)).flatten()
    return places, ahead[places].nonzero()[:, 0]


def lay(model: PreTrainedModel) -> None:
    """Have `model`, which has TRL's fused head, compute batches of `Placing` without their padding.

    Its outputs keep the shape [rows, longest - 1], with zeros where there is nothing to learn.
    """
    head.pick(model)
    padded = model.forward

    @wraps(type(model).forward)  # generate() looks at its arguments
    def forward(_: PreTrainedModel, *args: Any, **keys: Any) -> Any:
        told = {name: keys.pop(name) for name in TOLD if name in keys}
        if not told:
            return padded(*args, **keys)
        ids, mask, _ = (keys.pop(name) for name in ("input_ids", "attention_mask", "labels"))
        places, counted = told[PLACES], told[COUNTED]
        before = places[counted]
        outputs = padded(
            input_ids=ids.flatten()[places][None],
            position_ids=(places % ids.shape[1])[None],
            counted=counted,
            targets=ids.flatten()[before + 1],
            **_row_keys(mask),
            **keys,
        )
        for name in outputs:
            values = outputs[name]
            outputs[name] = values.new_zeros(ids.numel()).index_copy(0, before, values).view_as(ids)[:, :-1]
        return outputs

    model.forward = MethodType(forward, model)


def _row_keys(mask: torch.Tensor) -> dict[str, Any]:
    """As `attention.row_keys`, from what is on the device already."""
    return attention.keys_of(pad(mask.sum(1).cumsum(0), (1, 0)).int(), mask.shape[1])


def is_exact(model: PreTrainedModel, batch: dict[str, Any]) -> bool:
    """Whether `model`, which is laid, gives the answers of a small batch what it gives them with the padding."""
    names = ("input_ids", "attention_mask", "completion_mask", PLACES, COUNTED)
    sent = {name: batch[name].to(model.device) for name in names}
    learnt = sent.pop("completion_mask") == 1
    sent["labels"] = sent["input_ids"].masked_fill(~learnt, IGNORED)
    plain = {name: values for name, values in sent.items() if name not in TOLD}
    with evaluating(model), torch.no_grad():
        ours, theirs = (model(**each, fused_lm_head=True).log_probs[learnt[:, 1:]].float() for each in (sent, plain))
    return bool((ours - theirs).abs().mean() <= TOLERANCE * theirs.std())
