"""Padded batches, computed without their padding: TRL pads rows to the longest and keeps to that shape in its losses and
figures, while the model sees the tokens alone, laid end to end in one row.
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

PLACES = "token_places"  # of a batch: where in it, counted row by row, its tokens are
PARTS = ("", "KL_")  # of KTO's batches the second are answers to other prompts
PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")


@dataclass(frozen=True)
class Placing:
    """`collate`, whose batches say where their tokens are: asked on the device, it would have to be waited for."""

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collate(rows)
        masks = {part: batch[f"{part}attention_mask"] for part in PARTS if f"{part}attention_mask" in batch}
        return {**batch, **{f"{part}{PLACES}": mask.flatten().nonzero()[:, 0] for part, mask in masks.items()}}


def lay(model: PreTrainedModel) -> None:
    """Have `model`, which has TRL's fused head, compute batches that say their `PLACES` without their padding.

    Its outputs keep the shape [rows, longest - 1], with zeros where there is no token.
    """
    padded = model.forward

    @wraps(type(model).forward)  # generate() looks at its arguments
    def forward(_: PreTrainedModel, *args: Any, **keys: Any) -> Any:
        places = {part: keys.pop(f"{part}{PLACES}", None) for part in PARTS}[""]
        if places is None or not keys.get("fused_lm_head"):
            return padded(*args, **keys)
        ids, mask, labels = (keys.pop(name) for name in ("input_ids", "attention_mask", "labels"))
        targets = pad(labels[:, 1:], (0, 1), value=IGNORED)
        outputs = padded(
            input_ids=ids.flatten()[places][None],
            position_ids=(places % ids.shape[1])[None],
            shift_labels=targets.flatten()[places][None],
            **_row_keys(mask),
            **keys,
        )
        for name in PER_TOKEN:
            if (values := outputs.get(name)) is not None:
                outputs[name] = values.new_zeros(ids.numel()).index_copy(0, places, values[0]).view_as(ids)[:, :-1]
        return outputs

    model.forward = MethodType(forward, model)


def _row_keys(mask: torch.Tensor) -> dict[str, Any]:
    """As `attention.row_keys`, from what is on the device already."""
    starts, longest = pad(mask.sum(1).cumsum(0), (1, 0)).int(), mask.shape[1]
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}
