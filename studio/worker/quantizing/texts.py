"""The rows that calibrate, and those held out that perplexity is measured on: never the same ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from studio import models
from studio.config.quantize import QuantizeConfig
from studio.config.train import TrainConfig
from studio.datasets.formats import Row
from studio.datasets.masking import Masking
from studio.errors import DatasetError, RowError
from studio.exports.texts import find
from studio.worker import rows
from studio.worker.encode import Encoded, encode

DRAWN_FROM = 20_000  # rows at the beginning of a file
HELD_SHARE = 0.2  # of a set that is too small for both


@dataclass(frozen=True)
class Names:
    """What stands for {{name}} and {{author}} in rows that ask for them: as in the training, or something."""

    model: str
    author: str

    @classmethod
    def of(cls, training: TrainConfig | None, folder: Path) -> Names:
        """Those that the model was trained with, where it was trained here."""
        model = training.model_name if training else None
        author = training.model_author if training else None
        return cls(model or folder.name, author or "its authors")


@dataclass(frozen=True)
class Texts:
    """Encoded rows. `calibration` is empty where the method looks at none; `held` has labels, those of answers."""

    calibration: tuple[Encoded, ...]
    held: tuple[Encoded, ...]


def draw(config: QuantizeConfig, folder: Path, tokenizer: PreTrainedTokenizerBase, names: Names) -> Texts:
    """Rows of the asked datasets, drawn by `seed`.

    Raises:
        DatasetError: no such set, one of pairs or judged answers, or too few rows that can be used.
    """
    own, held_name = config.export_quantization_dataset, config.eval_dataset
    wanted = config.export_quantization_nsamples if config.is_calibrated else 0
    drawn = partial(_drawn, config, folder, tokenizer, names)
    if held_name and held_name != own:
        held = drawn(held_name, config.eval_samples)
        calibration = drawn(str(own), wanted) if wanted else []
    else:
        held, calibration = _parted(drawn(str(own), wanted + config.eval_samples), config.eval_samples, wanted)
    _require(held, held_name or str(own), "to measure perplexity on")
    if wanted:
        _require(calibration, str(own), "to calibrate with")
    return Texts(tuple(calibration), tuple(held))


def _parted(drawn: list[Encoded], held: int, wanted: int) -> tuple[list[Encoded], list[Encoded]]:
    if wanted and len(drawn) < held + wanted:
        held = min(held, max(1, int(len(drawn) * HELD_SHARE)))
    return drawn[:held], drawn[held : held + wanted]


def _drawn(
    config: QuantizeConfig, folder: Path, tokenizer: PreTrainedTokenizerBase, names: Names, name: str, count: int
) -> list[Encoded]:
    """Up to `count` rows that teach something, one sequence of each."""
    read = _read(config, name, names)
    picked = random.Random(f"{config.seed} {name}").sample(read, min(count, len(read)))
    masking = Masking(models.within_context(folder, config.export_quantization_maxlen), template=config.template)
    try:
        encoded: Sequence[Encoded] = list(encode(picked, tokenizer, masking))  # type: ignore[arg-type]  # by stage pt
    except RowError as error:
        raise DatasetError(f"dataset {name}, {error}") from error
    return [row for row in encoded if not (row.flaw or row.again)]


def _read(config: QuantizeConfig, name: str, names: Names) -> list[tuple[int, Row]]:
    path, entry = find(config, name)
    source = rows.Source(name, path, entry, DRAWN_FROM, names.model, names.author)
    return list(rows.read(source, rows.Part(), lambda fault: None, "pt"))


def _require(drawn: Sequence[Encoded], name: str, what: str) -> None:
    if not drawn:
        raise DatasetError(f"dataset {name} has no rows left {what}: take a larger one")
