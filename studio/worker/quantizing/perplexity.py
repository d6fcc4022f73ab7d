"""How well a model foretells texts that it was not calibrated with."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

from studio.errors import ModelError
from studio.worker.encode import IGNORED, Encoded
from studio.worker.methods.quantised import settle

LARGEST_LOSS = 700.0  # that a float can be the perplexity of
Tell = Callable[[int, int], None]


def of_folder(folder: Path, rows: Sequence[Encoded], device: str, tell: Tell) -> float:
    """The perplexity of the model in `folder` as it is stored; `tell` hears the rows done and all of them.

    Raises:
        ModelError: it cannot be loaded.
    """
    with loaded(folder, device_map=device) as model:
        return of(settle(model.eval()), rows, tell)


def of(model: PreTrainedModel, rows: Sequence[Encoded], tell: Tell) -> float:
    """exp of the mean loss in nats a token, over the tokens whose labels count; infinite or NaN for a ruined model."""
    nats = 0.0
    for done, row in enumerate(rows, 1):
        nats += _nats(model, row)
        tell(done, len(rows))
    mean = nats / counted(rows)
    return math.exp(mean) if mean < LARGEST_LOSS else math.inf


def counted(rows: Sequence[Encoded]) -> int:
    """Tokens that count: the first of a row has nothing before it to be foretold from."""
    return sum(label != IGNORED for row in rows for label in row.labels[1:])


def _nats(model: PreTrainedModel, row: Encoded) -> float:
    """The loss of a row, summed over its tokens that count."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.input_ids], device=model.device)).logits[0, :-1]
    labels = torch.tensor(row.labels[1:], device=logits.device)
    known = labels != IGNORED
    return float(cross_entropy(logits[known].float(), labels[known], reduction="sum"))


@contextmanager
def loaded(folder: Path, **keys: Any) -> Iterator[PreTrainedModel]:
    """The model in `folder`; its memory is free again after the block, if nobody keeps it.

    Raises:
        ModelError: its files do not make a model.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", **keys)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be loaded: {error}") from error
    try:
        yield model
    finally:
        del model
        gc.collect()
        torch.cuda.empty_cache()
