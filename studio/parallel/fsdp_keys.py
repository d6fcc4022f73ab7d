"""FSDP's settings as Accelerate and Transformers write them, with and without `fsdp_` before each key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.parallel.foreign import Fates, Reading, Values, chosen, is_on, read, switched

LAYERS = "every decoder layer is sharded by itself, and found by itself"
VERSION_1 = "it belongs to FSDP 1, and FSDP 2 takes its place"
SHARDED: Values = {"parallel_strategy": "fsdp2"}
OFFLOADED: Values = {"offload_param": "cpu"}
KEEPING = "parallel_strategy: zero2, which keeps the weights whole"
ACROSS_NODES = "parallel_strategy: fsdp2, which shards over all nodes alike"
STRATEGIES: dict[str, Values] = {"FULL_SHARD": SHARDED, "1": SHARDED, "NO_SHARD": {"parallel_strategy": "ddp"}}
STRATEGIES["3"] = STRATEGIES["NO_SHARD"]
INSTEAD = {"SHARD_GRAD_OP": KEEPING, "2": KEEPING}


def _strategy(value: Any) -> Values:
    name = str(value).upper()
    return chosen(STRATEGIES, INSTEAD.get(name, ACROSS_NODES))(name)


def _reshard(value: Any) -> Values:
    if isinstance(value, bool) or str(value).lower() in ("true", "false"):
        return _strategy("FULL_SHARD" if is_on(value) else "SHARD_GRAD_OP")
    return _strategy(value)


def words(value: Any) -> Values:
    """`fsdp` of Transformers' training arguments, true or words such as "full_shard auto_wrap offload", as options.

    Raises:
        RefusedError: it names a way of sharding that is not offered.
        TypeError: it is neither a switch nor words.
    """
    if isinstance(value, bool):
        return dict(SHARDED) if value else {}
    named = value.split() if isinstance(value, str) else [str(word) for word in value]
    taken: Values = dict(SHARDED) if named else {}
    for word in named:
        taken |= WORDS[word.lower()] if word.lower() in WORDS else _strategy(word)
    return taken


WORDS: dict[str, Values] = {"offload": OFFLOADED, "auto_wrap": {}, "true": SHARDED}
FATES = Fates(
    taken={
        "sharding_strategy": _strategy,
        "reshard_after_forward": _reshard,
        "offload_params": switched(OFFLOADED),
        "cpu_offload": switched(OFFLOADED),
        "activation_checkpointing": switched({"gradient_checkpointing": "on"}),
    },
    inert={
        "version": "FSDP 2 is what shards, whatever the version",
        **dict.fromkeys(("auto_wrap_policy", "transformer_layer_cls_to_wrap", "min_num_params"), LAYERS),
        **dict.fromkeys(
            ("backward_prefetch", "backward_prefetch_policy", "forward_prefetch", "limit_all_gathers",
             "use_orig_params", "sync_module_states"),
            VERSION_1,
        ),
        "cpu_ram_efficient_loading": "how weights are loaded follows from the model and the memory",
        "state_dict_type": "checkpoints are written in shards, models whole",
        "xla_fsdp_settings": "it only matters with xla, which is refused",
        "xla_fsdp_grad_ckpt": "it only matters with xla, which is refused",
        "xla_fsdp_v2": "it only matters with xla, which is refused",
    },
    refused={"xla": "nothing: this is for GPUs and CPUs, not for TPUs"},
)  # fmt: skip


def settings(values: Mapping[str, Any], section: str = "fsdp_config") -> Reading:
    """A section of FSDP's settings, which tunes: what asks for FSDP stands elsewhere."""
    return read({str(key).removeprefix("fsdp_"): value for key, value in values.items()}, FATES, section)
