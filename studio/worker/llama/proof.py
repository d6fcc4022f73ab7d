"""Proof that GGUF files hold the model: each is tried by llama.cpp against what Transformers says of the original."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from studio import models
from studio.config.gguf import BITS, FLOATS
from studio.errors import ModelError
from studio.files import read_record
from studio.worker.llama.conversion import Conversion, GgufFile, send
from studio.worker.llama.trial import Said, Trial

# in nats a token, by the arithmetic of the original: what rounding may cost, and what only a broken file does
FLOAT_LIMITS = {"float32": 0.02, "bfloat16": 0.06}
BITS_LIMITS = ((8, 0.1), (5.5, 0.3), (4.6, 0.7))  # of types with at least so many bits a weight
BROKEN_LIMIT = 2.0


@dataclass(frozen=True)
class Proven:
    """A file, what llama.cpp found, in how many seconds, and what is wrong with it, if anything is."""

    file: GgufFile
    trial: Trial
    seconds: float
    wrong: str


@dataclass(frozen=True)
class Proof:
    """All files. `computed_in` is the arithmetic of the original, empty where it could not be asked: `why` tells.

    `source` is the float file that they were made of: what the coarse types cost can hide a faulty conversion.
    """

    files: tuple[Proven, ...]
    computed_in: str
    why: str
    source: Proven | None = None

    @property
    def wrong(self) -> list[str]:
        return [proven.wrong for proven in (self.source, *self.files) if proven and proven.wrong]


def prove(model: Path, conversion: Conversion, work: Path, tell: Callable[[str], None]) -> Proof:
    """Try every file; `work` is an existing folder for what is compared meanwhile, `tell` hears what is going on.

    Raises:
        ModelError: llama.cpp cannot load one of the files.
    """
    kept, dtype, why = work / "reference.npz", affordable_dtype(model), ""
    if dtype:
        tell("asking the original")
        try:
            send({"model": str(model), "dtype": dtype, "answer": str(kept)}, "studio.worker.llama.reference", _nothing)
        except ModelError as error:
            dtype, why = "", f"Transformers cannot compute with the original here ({error})"
    else:
        why = "the original does not fit into this machine's memory"
    tried = {proven.file: proven for proven in _tried(conversion, kept if dtype else None, work, dtype, tell)}
    source = tried.pop(conversion.source) if conversion.source else None
    return Proof(tuple(tried.values()), dtype, why, source)


def affordable_dtype(model: Path) -> str:
    """The widest arithmetic for which the original fits into memory; empty where none does."""
    free, parameters = psutil.virtual_memory().available, models.check(model).parameters
    return next((name for name, width in (("float32", 4), ("bfloat16", 2)) if parameters * width < 0.6 * free), "")


def _tried(
    conversion: Conversion, reference: Path | None, work: Path, dtype: str, tell: Callable[[str], None]
) -> Iterator[Proven]:
    answer = work / "trial.json"
    for file in (*([conversion.source] if conversion.source else []), *conversion.files):
        tell(f"{file.outtype} in llama.cpp")
        started = time.monotonic()
        request = {
            "file": str(file.path),
            "samples": [asdict(sample) for sample in conversion.samples],
            "reference": reference and str(reference),
            "answer": str(answer),
        }
        send(request, "studio.worker.llama.trial", _nothing)
        record = read_record(answer)
        trial = Trial(**{**record, "answers": tuple(Said(**each) for each in record["answers"])})
        wrong = objection(file.outtype, trial, conversion, dtype)
        yield Proven(file, trial, time.monotonic() - started, wrong)


def objection(outtype: str, trial: Trial, conversion: Conversion, dtype: str) -> str:
    """Why a file may not be used, in a sentence; empty where it may."""
    known = set(conversion.strange)
    if strange := [text for text in trial.strange if text not in known]:
        return f"{outtype}: llama.cpp reads {strange[0][:60]!r} as other tokens than Transformers does."
    if trial.kl is None:
        return ""
    limit = _limit(outtype, dtype)
    if trial.kl <= limit:
        return ""
    return f"{outtype}: llama.cpp computes another model (KL {trial.kl:.2g} nats a token, {limit} is the limit)."


def _limit(outtype: str, dtype: str) -> float:
    if outtype in FLOATS:
        return FLOAT_LIMITS[dtype]
    return next((limit for bits, limit in BITS_LIMITS if BITS[outtype] >= bits), BROKEN_LIMIT)


def _nothing() -> None:
    """Progress that nobody asks for."""
