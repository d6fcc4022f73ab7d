"""The head of a language model over the tokens that count, and no others, of batches that say which these are.

TRL's fused head, too, leaves out the rest, but has to ask the device how many there are, and waits for the answer.
"""

from __future__ import annotations

from functools import wraps
from inspect import getclosurevars
from types import MethodType
from typing import Any

from transformers import PreTrainedModel
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils
from trl.trainer.utils import FusedCausalLMOutput

from studio.worker.encode import IGNORED

PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def pick(model: PreTrainedModel) -> None:
    """Have `model`, which has TRL's fused head, compute of batches with `targets` [n] those alone: what the tokens
    `counted` [n], numbered row by row, are followed by. Its outputs have the shape [n]; where a target is IGNORED, what
    they say is of no meaning.
    """
    whole = model.forward
    # what TRL knows of the architecture: by what it multiplies its logits, and how it limits them
    known = getclosurevars(whole.__func__).nonlocals

    @wraps(type(model).forward)  # generate() looks at its arguments
    def forward(_: PreTrainedModel, *args: Any, **keys: Any) -> Any:
        if "targets" not in keys:
            return whole(*args, **keys)
        counted, targets, head = keys.pop("counted"), keys.pop("targets"), model.get_output_embeddings()
        keys = {name: value for name, value in keys.items() if name not in ("fused_lm_head", "labels")}
        states = model.base_model(*args, **keys).last_hidden_state.flatten(0, 1).index_select(0, counted)
        told = ChunkedLogProbFunction.apply(
            states,
            head.weight,
            head.bias,
            targets.clamp(min=0),
            known["temperature"],
            utils._CHUNKED_LOGPROB_CHUNK_SIZE,
            known["final_logit_softcapping"],
            known["logit_scale"],
            known["outputs"],
        )
        mask = targets != IGNORED
        return FusedCausalLMOutput(**dict(zip(PER_TOKEN, told, strict=True)), label_mask=mask)

    model.forward = MethodType(forward, model)
