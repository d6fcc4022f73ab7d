"""What the output head and the loss take, in bytes. TRL's head computes logits in tiles and never holds them all."""

from __future__ import annotations

from studio.config.train.preference import UNREFERENCED
from studio.planning.activations import Work
from studio.planning.shape import Tensor

TILE_TOKENS = 4096
TILE_WORDS = 32_768
# bytes for each logit of two bytes at the begin of the way back, where all of them are held: itself, in float32, its
# share of a softmax, gradients (measured: 12.4, 20.2, 8.1)
SMOOTHED, SPREAD, COMPARED = 12, 20, 8


def head_bytes(work: Work) -> int:
    """At the begin of the way back."""
    if work.config.stage == "rm":
        return 0
    shape, computed, tokens = work.shape, work.precision.computed, work.batch.tokens
    hidden = (4 + 2 * work.stream) * shape.hidden * tokens
    if whole := _whole(work):
        return hidden + (whole + computed - 2) * shape.vocabulary * tokens
    tile = min(tokens, TILE_TOKENS) * TILE_WORDS * computed
    if is_copied(work) and work.config.stage in ("pt", "sft"):
        return hidden + tile  # the rest is written where it stays
    heads = _trained(work)
    held = work.precision.used if heads else work.precision.frozen
    words = min(TILE_WORDS, shape.vocabulary) * shape.hidden * computed if held > computed else 0
    return hidden + tile + words + sum(4 * tensor.size for tensor in heads)  # a gradient in float32


def is_copied(work: Work) -> bool:
    """Whether the head is one of the trained layers that have narrow copies."""
    is_own = any(tensor.is_head for tensor in work.parameters.trained)
    return work.ways.dense and is_own and work.shape.vocabulary <= TILE_WORDS


def _trained(work: Work) -> list[Tensor]:
    """The head itself, where it is trained."""
    trained = [*work.parameters.trained, *work.parameters.added]
    heads = [tensor for tensor in trained if tensor.is_head]
    if not heads and not any(tensor.is_head for tensor in work.shape.tensors):  # tied to the embedding
        heads = [tensor for tensor in trained if tensor.is_embedding]
    return heads


def _whole(work: Work) -> int:
    """Bytes for each logit, where the loss needs all of them at once; else 0."""
    config = work.config
    if config.z_loss_coef:
        return SPREAD
    if config.label_smoothing_factor:
        return SMOOTHED
    # TRL's trainers without a reference model hold all logits
    return COMPARED if config.stage == "dpo" and config.pref_loss in UNREFERENCED else 0
