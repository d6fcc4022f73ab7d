"""A model folder written as GGUF files: the floats by llama.cpp's converter, the smaller types made of one of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from studio import models
from studio.errors import ModelError
from studio.exports.gguf import DIRECT, expected_bytes, lossless, scratch_type
from studio.files import read_record, write_json
from studio.serving import errand
from studio.serving.errand import ErrandFailed
from studio.worker.llama import quantiser
from studio.worker.llama.quantiser import Tell
from studio.worker.llama.texts import Sample

LOOK_S = 0.3
EXCEPTION = re.compile(r"[\w.]*(?:Error|Exception)\b")  # how the last line of a traceback begins


@dataclass(frozen=True)
class GgufFile:
    """A written file: its size, what a weight takes of it without vocabulary, and how long it took."""

    path: Path
    outtype: str
    bytes: int
    bits_per_weight: float
    seconds: float


@dataclass(frozen=True)
class Conversion:
    """All files of one conversion, and what the tokenizer was found to be.

    `pre` is llama.cpp's name for its way of splitting text, `recognised` whether the converter knew it by itself;
    `samples` are the texts that were compared, `strange` those that llama.cpp reads as other tokens. `source` is the
    float file that the others were made of, where that was to be kept.
    """

    files: tuple[GgufFile, ...]
    pre: str | None
    recognised: bool
    samples: tuple[Sample, ...]
    strange: tuple[str, ...]
    source: GgufFile | None = None


def convert(model: Path, target: Path, outtype: str, tell: Tell) -> GgufFile:
    """Write the model in folder `model` as the file `target`. `tell(done, total)` is called as bytes are written.

    Raises:
        ModelError: it cannot be converted, or llama.cpp would read other tokens than Transformers.
    """
    return convert_all(model, {outtype: target}, {}, tell).files[0]


def convert_all(
    model: Path, targets: Mapping[str, Path], facts: Mapping[str, Any], tell: Tell, keep: Path | None = None
) -> Conversion:
    """Write one model as several files, type -> path, in one folder, where more is written meanwhile.

    `facts` is what the files say of themselves, by the converter's keys (general.name, general.license, ...). A float
    file that is written only to make the others of it stays in the folder `keep`, if there is one, to be tried.
    """
    work = next(iter(targets.values())).parent / ".making"
    work.mkdir(parents=True, exist_ok=True)
    try:
        return _Making(model, targets, work, tell, keep).run(facts)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Making:
    """One conversion while it goes on. Bytes that are on disk are its progress."""

    def __init__(self, model: Path, targets: Mapping[str, Path], work: Path, tell: Tell, keep: Path | None) -> None:
        self.model, self.targets, self.work, self.tell = model, targets, work, tell
        self.info = models.check(model)
        self.scratch = scratch_type(self.info, tuple(targets))
        self.is_kept = keep is not None
        self.direct = {name: path for name, path in targets.items() if name in DIRECT}
        if self.scratch:
            self.direct[self.scratch] = (keep or work) / f"{self.scratch}.gguf"
        self.written = tuple(dict.fromkeys([*targets.values(), *self.direct.values()]))
        self.total = sum(expected_bytes(self.info, name) for name in {*targets, *self.direct})

    def run(self, facts: Mapping[str, Any]) -> Conversion:
        seconds: dict[str, float] = {}
        found = self._timed(lambda: self._write_floats(facts), seconds, *self.direct)
        for name, path in self.targets.items():
            if name not in self.direct:
                self._timed(partial(quantiser.quantise, self._source(), path, name, self._look), seconds, name)
        files = (measured(path, name, seconds[name]) for name, path in self.targets.items())
        return Conversion(
            tuple(files), found["pre"], found["recognised"],
            tuple(Sample(each["text"], tuple(each["ids"]), each["is_conversation"]) for each in found["samples"]),
            tuple(found["strange"]), self._kept(seconds),
        )  # fmt: skip

    def _kept(self, seconds: Mapping[str, float]) -> GgufFile | None:
        if not (self.scratch and self.is_kept):
            return None
        return measured(self.direct[self.scratch], self.scratch, seconds[self.scratch])

    def _timed(self, work: Callable[[], Any], seconds: dict[str, float], *names: str) -> Any:
        started = time.monotonic()
        made = work()
        seconds.update(dict.fromkeys(names, (time.monotonic() - started) / len(names)))
        return made

    def _source(self) -> Path:
        """The file that lost nothing of the model: there is one if any type needs it."""
        return self.direct.get("f32") or self.direct[lossless(self.info)]

    def _look(self, *_: int) -> None:
        self.tell(min(sum(map(size_bytes, self.written)), self.total), self.total)

    def _write_floats(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Have the converter write what it writes itself; what it found out about the tokenizer."""
        answer, metadata = self.work / "answer.json", self.work / "facts.json"
        write_json(metadata, dict(facts))
        request = {
            "model": str(self.model),
            "targets": {name: str(path) for name, path in self.direct.items()},
            "facts": str(metadata),
            "answer": str(answer),
        }
        try:
            send(request, "studio.worker.llama.converter", self._look)
        except ModelError as error:
            raise ModelError(explained(str(error))) from error
        return read_record(answer)


def explained(said: str) -> str:
    """What the converter said last, with what to do where it is one of its own exceptions rather than our sentence."""
    if not EXCEPTION.match(said):
        return said
    if "tokenizer.model" in said:
        return (
            "llama.cpp's converter needs the tokenizer.model of this model: copy it there from the base model's folder"
        )
    return f"llama.cpp's converter cannot write this model ({said}): serve it with vLLM or Transformers instead"


def send(request: Mapping[str, Any], module: str, look: Callable[[], None]) -> None:
    """Have a process of its own do what `request` says, and `look` at it meanwhile.

    Raises:
        ModelError: it could not, in its words.
    """
    try:
        threads = len(os.sched_getaffinity(0))
        asyncio.run(_watched(errand.run(module, given=json.dumps(request), threads=threads), look))
    except ErrandFailed as error:
        raise ModelError(str(error)) from error


def size_bytes(path: Path) -> int:
    """How much of a file is there; 0 where there is none yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def measured(path: Path, outtype: str, seconds: float) -> GgufFile:
    """A file that is written, measured."""
    tensors = GGUFReader(path).tensors
    weights = sum(int(tensor.n_elements) for tensor in tensors)
    bits = 8 * sum(int(tensor.n_bytes) for tensor in tensors) / weights
    return GgufFile(path, outtype, size_bytes(path), bits, seconds)


async def _watched(work: Coroutine[Any, Any, None], look: Callable[[], None]) -> None:
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.wait((task,), timeout=LOOK_S)
        look()
    task.result()
