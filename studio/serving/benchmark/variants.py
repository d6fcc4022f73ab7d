"""The ways of answering that are compared: each a server's configuration, or a process that generates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.config.bench import GENERATE, INT8, QUANTISED, SERVERS, BenchConfig
from studio.config.load import parse
from studio.config.serve import ServeConfig

# a server whose benchmark was killed stops by itself
IDLE_STOP_MINUTES = 3.0


@dataclass(frozen=True)
class Variant:
    """One way. `serve` is its server, and for a generator says which model, type and threads; `batched` whether all
    requests of a moment are answered together."""

    name: str
    serve: ServeConfig
    is_server: bool
    batched: bool


def variants(config: BenchConfig, folder: Path) -> list[Variant]:
    """Every way that `config` names, in its order. What is made for the benchmark is made in `folder`.

    Raises:
        ConfigError: an option of the servers does not fit.
    """
    return [_variant(config, folder, name) for name in config.variants]


def _variant(config: BenchConfig, folder: Path, name: str) -> Variant:
    values: dict[str, Any] = {
        "model_name_or_path": config.model_name_or_path,
        "max_num_seqs": max(config.concurrency),
        "max_model_len": config.longest,
        "max_loras": 1,
        "idle_stop_minutes": IDLE_STOP_MINUTES,
        **config.server,
    }
    is_server = name not in GENERATE
    if name in QUANTISED:
        values |= {"infer_backend": "vllm", "quantization": name}
    elif name in SERVERS:
        values["infer_backend"] = name
    elif is_server:
        values |= {"infer_backend": "vllm", "model_name_or_path": str(folder / INT8) if name == INT8 else name}
    return Variant(name, parse(ServeConfig, values), is_server, batched=name != "generate_single")
