"""Which kinds of adapters vLLM cannot serve, told from their configuration before it is asked, and who can instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from studio.config.serve import ServeConfig
from studio.models import AdapterInfo

RANKS: tuple[int, ...] = ServeConfig.model_fields["max_lora_rank"].annotation.__args__  # type: ignore[union-attr]
# these only say how training began; a saved adapter is plain LoRA
PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
# options of a LoRA that vLLM refuses -> what they are called
REFUSED = {
    "lora_bias": "a bias in LoRA layers",  # a merge has to find a place for it, which few models have
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
}
# those of them that a merge covers
MERGED = {
    "use_dora": "DoRA",
    "modules_to_save": "modules that were trained whole (modules_to_save)",
    "trainable_token_indices": "tokens that were trained by themselves (trainable_token_indices)",
    "target_parameters": "LoRA on bare parameters (target_parameters)",
}
UNDONE_INITS = frozenset({"pissa", "olora"})  # what these took from the base can be taken again


class Way(StrEnum):
    """How an adapter gets to answer."""

    ADAPTER = "adapter"
    MERGED = "merged"
    STAND_IN = "stand-in"


@dataclass(frozen=True)
class Kind:
    """The way for one adapter, and `why` it is not served as an adapter, for the end of a sentence."""

    way: Way
    why: str = ""


def kind(info: AdapterInfo) -> Kind:
    """The way to have this adapter answer. What our merge covers is merged; for the rest Transformers stands in."""
    if info.kind != "LORA":
        return Kind(Way.STAND_IN, f"vLLM serves LoRA only, and this is {info.kind}")
    if refused := list(_refused(info.config)):
        return Kind(Way.STAND_IN, f"vLLM cannot serve {' and '.join(refused)}")
    if merged := list(_merged(info)):
        return Kind(Way.MERGED, f"vLLM cannot serve {' and '.join(merged)}")
    return Kind(Way.ADAPTER)


def smallest_rank(rank: int) -> int:
    """The smallest of vLLM's ranks that holds an adapter of this rank; the largest where none does."""
    return next((choice for choice in RANKS if choice >= rank), max(RANKS))


def _merged(info: AdapterInfo) -> Iterator[str]:
    for key, name in MERGED.items():
        if info.config.get(key):
            yield name
    if info.config.get("bias") not in (None, "none"):
        yield "an adapter with bias"
    init = info.config.get("init_lora_weights")
    if init in UNDONE_INITS:
        yield f"an adapter that changes its base when it is loaded ({init})"
    if info.rank > max(RANKS):
        yield f"an adapter of rank {info.rank}"


def _refused(config: Any) -> Iterator[str]:
    for key, name in REFUSED.items():
        if config.get(key):
            yield name
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in PLAIN_INITS | UNDONE_INITS:
        yield f"an adapter that changes its base when it is loaded ({init})"
