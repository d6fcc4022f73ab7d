"""A merge by PEFT with the whole model in memory, in float32: for adapters that the stream has no arithmetic for.

It is asked for, never fallen back to. Where PEFT is known to merge wrongly it is refused here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from studio import models
from studio.errors import ModelError
from studio.exports.merge import FULL_BYTES
from studio.worker.merging import ends, names
from studio.worker.merging.adapter import require_stored_base
from studio.worker.merging.ledger import Written
from studio.worker.merging.sheet import TIED, Sheet
from studio.worker.merging.work import TYPES, Plan, Share

ALONE = (".token_adapter.",)  # what PEFT itself keeps equal at both ends


def plan(folder: Path, shares: Sequence[Share], export_dtype: str = "auto") -> Plan:
    """The tensors of the base, which PEFT will change.

    Raises:
        ModelError: it does not fit into memory, or PEFT would merge it wrongly.
    """
    sheet = Sheet(folder, export_dtype)
    needed = sum(math.prod(tensor.shape) for tensor in sheet.tensors.values()) * FULL_BYTES
    if needed > (free := psutil.virtual_memory().available):
        raise ModelError(
            f"merge_method: full_memory needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: "
            "choose stream, which needs none, or a machine with more"
        )
    for share in shares:
        _require_right(sheet, share)
    sheet.notes.append("Merged by PEFT with the whole model in memory, in float32 (merge_method: full_memory).")
    return sheet.plan()


def write(
    planned: Plan,
    folder: Path,
    shares: Sequence[Share],
    target: Path,
    shard_bytes: int,
    trust_remote_code: bool = False,
) -> Written:
    """Load, merge one adapter after another, and save the weights.

    Raises:
        ModelError: the model cannot be loaded, or an adapter cannot be merged, in PEFT's words.
    """
    from peft import PeftModel  # only here: half a gigabyte that the stream does without
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=trust_remote_code
        )
        for share in shares:
            live = PeftModel.from_pretrained(model, str(share.adapter))
            _share(live, share.weight)
            model = live.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError, TypeError) as error:
        raise ModelError(f"PEFT cannot merge it: {error}") from error
    model.config.tie_word_embeddings = planned.config_changes.get(TIED, model.config.tie_word_embeddings)
    model.to(TYPES[planned.tensors[0].dtype]).save_pretrained(target, max_shard_size=shard_bytes)
    outputs = {path.name: _digest(path) for path in sorted(target.glob("*.safetensors"))}
    return _written(folder, shares, target, outputs)


def _require_right(sheet: Sheet, share: Share) -> None:
    """PEFT takes any start for the stored base's, and adds what is meant for one of two tied ends to both."""
    info = models.adapter_info(share.adapter)
    require_stored_base(info.config)
    ends.require_known(sheet, share.adapter)
    own = {names.leaf(end) for end in (sheet.embedding, sheet.head) if end}
    changed = [key for key in models.read_header(share.adapter / models.ADAPTER_WEIGHTS) if own & set(key.split("."))]
    whole = tuple(f".{end}.{part}" for end in own for part in ("weight", "bias"))
    adapted = [key for key in changed if not key.endswith(whole)]
    if sheet.is_tied and [key for key in adapted if not any(part in key for part in ALONE)]:
        raise ModelError(
            f"{share.adapter} adapts the embedding or the head of {sheet.folder}, which are one weight, and PEFT would "
            "change both: choose merge_method: stream, which writes them apart"
        )
    if sheet.is_tied and changed and not adapted:
        sheet.set(TIED, False)
    if share.weight != 1 and info.kind != "LORA":
        raise ModelError(f"adapter_weights: only of a LoRA a part can be merged, and {share.adapter} is {info.kind}")


def _share(live: Any, weight: float) -> None:
    for module in live.modules():
        if weight != 1 and hasattr(module, "set_scale"):
            module.set_scale("default", weight)


def _written(folder: Path, shares: Sequence[Share], target: Path, outputs: dict[str, str]) -> Written:
    paths = [folder / name for name in models.weight_files(folder)]
    paths += [share.adapter / models.ADAPTER_WEIGHTS for share in shares]
    return Written(
        inputs={str(path): _digest(path) for path in paths},
        outputs=outputs,
        bytes_read=sum(path.stat().st_size for path in paths),
        bytes_written=sum((target / name).stat().st_size for name in outputs),
    )


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
