"""What the output head and the loss take, in bytes. TRL's head computes logits in tiles and never holds them all."""

from __future__ import annotations

from studio.planning.activations import Work

TILE_TOKENS = 4096
TILE_WORDS = 32_768
UNREFERENCED = ("orpo", "simpo")  # losses without a reference model, whose trainers hold all logits
# beside the logits: in float32, their softmax, its gradient and the cast one
FULL_COPIES = 3


def head_bytes(work: Work) -> int:
    """At the begin of the way back."""
    if work.config.stage == "rm":
        return 0
    shape, computed, tokens = work.shape, work.precision.computed, work.batch.tokens
    hidden = (4 + 2 * work.stream) * shape.hidden * tokens
    if _is_whole(work):
        return hidden + (2 * computed + 4 * FULL_COPIES) * shape.vocabulary * tokens
    tile = min(tokens, TILE_TOKENS) * TILE_WORDS * computed
    words = min(TILE_WORDS, shape.vocabulary) * shape.hidden * computed if work.stream > computed else 0
    return hidden + tile + words + _gradient(work)


def _gradient(work: Work) -> int:
    """Of the head itself, in float32, where it is trained."""
    trained = [*work.parameters.trained, *work.parameters.added]
    heads = [tensor for tensor in trained if tensor.is_head]
    if not heads and not any(tensor.is_head for tensor in work.shape.tensors):  # tied to the embedding
        heads = [tensor for tensor in trained if tensor.is_embedding]
    return sum(4 * tensor.size for tensor in heads)


def _is_whole(work: Work) -> bool:
    """Whether the loss needs all logits at once."""
    config = work.config
    unreferenced = config.stage == "dpo" and config.pref_loss in UNREFERENCED
    return bool(config.label_smoothing_factor or config.z_loss_coef or unreferenced)
