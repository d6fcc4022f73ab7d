"""LLaMA-Factory's words of the environment that start several processes, as options of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.errors import ConfigError, Problem

OPTIONS = {
    "NNODES": "nnodes",
    "NPROC_PER_NODE": "nproc_per_node",
    "MASTER_ADDR": "master_addr",
    "MASTER_PORT": "master_port",
}
STRATEGIES = ("parallel_strategy", "deepspeed", "fsdp", "accelerate_config")


def options(environ: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What `environ` adds below `values`, with FORCE_TORCHRUN=1 only: other programs set such words as well.

    Raises:
        ConfigError: it is not the first machine, which the others wait for here.
    """
    if environ.get("FORCE_TORCHRUN", "").lower() not in ("1", "true", "y"):
        return {}
    if environ.get("NODE_RANK", "0") != "0":
        what = "start the training on machine 0: it shows what to type on this one, with --node-rank"
        raise ConfigError([Problem("NODE_RANK", what)])
    said = {option: environ[word] for word, option in OPTIONS.items() if environ.get(word)}
    return said if any(values.get(key) for key in STRATEGIES) else {"parallel_strategy": "ddp", **said}
