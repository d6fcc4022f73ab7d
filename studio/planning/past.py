"""How fast the last similar training went."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from statistics import median

from studio.config.train import TrainConfig
from studio.files import tail
from studio.models import resolve
from studio.runs import events
from studio.runs.run import Run
from studio.runs.store import Store

LOOKED_AT = 100  # runs, the newest first
READ_BYTES = 64_000
ALIKE = (
    "stage", "finetuning_type", "quantization_bit", "packing", "use_dora", "flash_attn", "parallel_strategy", "devices",
    "nproc_per_node", "nnodes", "hostfile", "offload_optimizer", "offload_param",
)  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """Tokens a second, as the run `run_id` had them."""

    run_id: str
    tokens_per_s: float


def pace(config: TrainConfig, store: Store, device: str) -> Pace | None:
    """Of the newest training of this model by this method on this kind of device; None where there was none."""
    for run in islice(store.list("train"), LOOKED_AT):
        if _is_like(run, config, device) and (rates := _rates(run)):
            return Pace(run.id, median(rates))
    return None


def _is_like(run: Run, config: TrainConfig, device: str) -> bool:
    other = run.config
    if not isinstance(other, TrainConfig) or run.result.get("device") != device:
        return False
    same = all(getattr(other, key) == getattr(config, key) for key in ALIKE)
    return same and resolve(other.model_name_or_path) == resolve(config.model_name_or_path)


def _rates(run: Run) -> list[float]:
    """Those of its last steps; the first ones warm up."""
    text = tail(run.metrics, READ_BYTES)
    points = events.parse(text.partition("\n")[2].encode() or text.encode())
    return [rate for point in points if (rate := point.get("tokens_per_s")) and point.get("type") == "step"]
