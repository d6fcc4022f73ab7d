"""What this training needs of this device, asked of the plan with the rows and the memory that are really there."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import psutil
import pyarrow
import pyarrow.compute
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.machine import GB, Gpu, Machine
from studio.models import ModelInfo
from studio.planning import passes, shape, ways
from studio.planning.batch import Lengths
from studio.planning.memory import CUDA_CONTEXT_GB
from studio.planning.passes import Course, Passes
from studio.planning.team import Team
from studio.worker.consensus import Consensus
from studio.worker.fast import attention, liger
from studio.worker.mixing import Rows
from studio.worker.ranks import Rank

UNLIMITED = (1 << 31) - 1  # tokens
ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids")


class TokenizerMismatch(ModelError):
    """The rows hold a token that the model has no embedding for."""


def course(config: TrainConfig, info: ModelInfo, model: PreTrainedModel, data: Rows, rank: Rank) -> Course:
    """How the rows of a step go through `model` on the device of `rank`, as configured or as it has room."""
    among = Team(rank.world, rank.beside, max(1, torch.cuda.device_count()) if rank.world == 1 else 1)
    read, machine = shape.read(info.path), own_machine()
    found = {"attention": attention.is_flat(model), "kernels": liger.path(model).way == "liger"}
    by = replace(ways.of(config, read, machine.gpu is not None), **found)
    return passes.course(config, read, lengths(data), machine, among, by)


def agreed(own: Passes, consensus: Consensus) -> Passes:
    """Those of the process that has the least room: the fewest tokens, and the most layers computed twice."""
    tokens, recomputed = -consensus.most(-(own.tokens or UNLIMITED)), consensus.most(own.recomputed)
    return Passes(None if tokens == UNLIMITED else tokens, recomputed)


def check_tokens(data: Rows, vocabulary: int) -> None:
    """Look for tokens that a model of so many does not know. Of a stream, at its first rows only.

    Raises:
        TokenizerMismatch: naming the largest.
    """
    largest = max((_largest(column) for column in _columns(data)), default=0)
    if largest >= vocabulary:
        raise TokenizerMismatch(
            f"the tokenizer gives token {largest}, but the model knows only {vocabulary} tokens (0 to {vocabulary - 1})"
        )


def own_machine() -> Machine:
    """This machine as if this process had not taken any memory of it yet."""
    own = psutil.Process().memory_info().rss
    return Machine(_own_gpu(), psutil.virtual_memory().available + own, disk_free=0)


def _own_gpu() -> Gpu | None:
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    own = torch.cuda.memory_reserved() + round(CUDA_CONTEXT_GB * GB)
    return Gpu(_own_index(), torch.cuda.get_device_name(), total, max(0, total - free - own), 0)


def _own_index() -> int:
    """As the driver counts, and so the option `devices`: a process may see a few of its GPUs only."""
    visible, place = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","), torch.cuda.current_device()
    named = visible[place].strip() if place < len(visible) else ""
    return int(named) if named.isdecimal() else place


def _columns(data: Rows) -> list[Any]:
    """Columns of token ids."""
    if isinstance(data.train, Dataset):
        table = data.train.data.table
        return [table[name] for name in table.column_names if name.endswith("_ids")]
    return [pyarrow.array([row[name]]) for row in data.ends for name in row if name.endswith("_ids")]


def _largest(column: Any) -> int:
    return int(pyarrow.compute.max(pyarrow.compute.list_flatten(column)).as_py() or 0)


def lengths(data: Rows) -> Lengths:
    """Tokens of the rows; a stream may hold any that the cutoff allows."""
    if not isinstance(data.train, Dataset) or not len(data.train):
        return Lengths(data.cutoff_len, data.cutoff_len)
    table = data.train.data.table
    sizes = {
        name: pyarrow.compute.list_value_length(table[name]) for name in table.column_names if name.endswith("_ids")
    }
    answers = [size for name, size in sizes.items() if name in ANSWERS]
    others = [size for name, size in sizes.items() if name not in ANSWERS]
    rows = pyarrow.compute.max_element_wise(*answers) if answers else None
    for size in others:
        rows = size if rows is None else pyarrow.compute.add(rows, size)
    return Lengths(int(pyarrow.compute.max(rows).as_py()), float(pyarrow.compute.mean(rows).as_py()))
