"""What Transformers with PEFT answers to the probe: the answers that a server's must equal, adapter by adapter.

Computed by a process of its own, on the CPU, once for an adapter and its base; kept in saves/.references.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from studio import models
from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.files import read_record
from studio.serving import errand, probe
from studio.serving.probe import Check, Reference, Row, Token

VERSION = 2  # of what is computed and how it is kept
TIMEOUT_S = 1800.0
PROCESS_GB = 1.5  # torch, Transformers and PEFT, before any weight
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# what rounding alone moves a log-probability by, in nats; bfloat16 has steps of 0.06 to 0.12 at the size of a logit.
# Measured: 0.0000 in float32, 0.12 in bfloat16; another adapter is whole nats away
FLOORS = {"float32": 0.01, "float16": 0.05, "bfloat16": 0.25}
SAFETENSORS_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


class Unavailable(ServingError):
    """There is nothing to compare with, and why."""


@dataclass(frozen=True)
class Expected:
    """Greedy answers by Transformers. `noise`: what it differs from itself by, token by token against all at once."""

    rows: tuple[Row, ...]
    noise: float


@dataclass(frozen=True)
class Pair:
    """The answers of a base and of an adapter on it."""

    base: Expected
    adapter: Expected


class References:
    """Transformers' answers for one server's base. `folder` keeps them; `prompts` are token ids."""

    def __init__(self, config: ServeConfig, folder: Path, prompts: Sequence[Sequence[int]]) -> None:
        self._config = config
        self._folder = folder
        self._prompts = [list(prompt) for prompt in prompts]
        self._one_at_a_time = asyncio.Lock()
        self._base = models.folder_of(config.model_name_or_path)

    @property
    def dtype(self) -> str:
        """The type that the server computes in."""
        return served_dtype(self._config, self._base)

    def judged(self, name: str, check: Check, alone: Reference, pair: Pair) -> Check:
        """The check of adapter `name` with the verdict. `alone`: how the server's base answers.

        Raises:
            ServingError: the adapter's answers are not the adapter's.
        """
        limit = tolerance(self.dtype, alone, pair)
        if (off := probe.difference(pair.base.rows, alone.rows)) > limit:
            why = f"the base by itself answers otherwise than with Transformers (log-probabilities {off:.2f} apart)"
            return replace(check, reference=f"skipped: {why}")
        off = probe.difference(pair.adapter.rows, check.answers)
        if off <= limit and probe.difference(pair.base.rows, pair.adapter.rows) <= limit:
            why = "the adapter changes answers by less than rounding may, with Transformers too"
            return replace(check, reference=f"skipped: {why}", reference_max_logprob_diff=round(off, 4))
        if off <= limit:
            return replace(check, reference="ok", reference_max_logprob_diff=round(off, 4))
        if check.adapter_max_logprob_diff_from_base <= limit:
            raise ServingError(ignored(name))
        raise ServingError(
            f"{name} was unloaded again: its answers are not those that Transformers gives with it (log-probabilities "
            f"{off:.2f} apart, where rounding explains {limit:.2f}). Merge it and chat with the merged model"
        )

    async def stored(self, adapter: Path) -> Pair | None:
        """What was computed earlier for exactly this adapter and base.

        Raises:
            Unavailable: there is no base to compute with.
            ModelError: a file is missing.
        """
        base, own = await self._paths(adapter)
        found = _read(base), _read(own)
        return Pair(*found) if found[0] and found[1] else None  # type: ignore[arg-type]

    async def compute(self, adapter: Path) -> Pair:
        """Ask Transformers, which takes some seconds for a small model and minutes for a large one.

        Raises:
            Unavailable: there is no base to compute with, not enough memory, or it fails there.
            ModelError: a file is missing.
        """
        async with self._one_at_a_time:
            if found := await self.stored(adapter):
                return found
            base, own = await self._paths(adapter)
            self._require_memory()
            await _run(self._request(adapter, base, own))
            if found := await self.stored(adapter):
                return found
            raise Unavailable("the adapter was changed while it was looked at")

    async def _paths(self, adapter: Path) -> tuple[Path, Path]:
        """Where the answers of base and adapter are kept."""
        if obstacle := self._obstacle():
            raise Unavailable(obstacle)
        assert self._base
        base = [VERSION, _state(self._base), self.dtype, self._prompts, probe.TOKENS, probe.TOP]
        own = [*base, await asyncio.to_thread(models.fingerprint, adapter)]
        return self._folder / f"{_digest(base)}.json", self._folder / f"{_digest(own)}.json"

    def _obstacle(self) -> str:
        if self._base is None:
            return "the base model's files are not on this machine"
        if self._config.quantization or read_record(self._base / "config.json").get("quantization_config"):
            return "the server's weights are quantised, those of Transformers are not"
        if self._config.kv_cache_dtype != "auto":
            return "the server rounds its KV cache, Transformers does not"
        return ""

    def _require_memory(self) -> None:
        assert self._base
        needed = PROCESS_GB + models.check(self._base).parameters * BYTES[self.dtype] / 1e9
        free = psutil.virtual_memory().available / 1e9
        if needed > free:
            raise Unavailable(f"Transformers would need {needed:.1f} GB beside the server, and {free:.1f} GB are free")

    def _request(self, adapter: Path, base_answers: Path, adapter_answers: Path) -> dict[str, Any]:
        return {
            "base": str(self._base),
            "adapter": str(adapter),
            "dtype": self.dtype,
            "trust_remote_code": self._config.trust_remote_code,
            "prompts": self._prompts,
            "tokens": probe.TOKENS,
            "top": probe.TOP,
            "base_answers": str(base_answers),
            "adapter_answers": str(adapter_answers),
        }


def tolerance(dtype: str, alone: Reference, pair: Pair) -> float:
    """How far apart equal answers may be: by the type's rounding, and by what either side differs from itself."""
    measured = max(alone.noise, pair.base.noise, pair.adapter.noise)
    return min(max(FLOORS[dtype], 3 * measured), probe.TOLERANCE_MAX)


def ignored(name: str) -> str:
    """What is said of an adapter whose weights change nothing."""
    return (
        f"{name} was unloaded again: the server ignores it. Its weights are not zero, and yet every answer is the "
        "base's. Merge it and chat with the merged model"
    )


def served_dtype(config: ServeConfig, base: Path | None) -> str:
    """What vLLM computes in: float32 models are served in bfloat16 unless the configuration says otherwise."""
    if config.dtype != "auto" or base is None:
        return config.dtype if config.dtype in FLOORS else "bfloat16"
    stated = read_record(base / "config.json")
    named = stated.get("dtype") or stated.get("torch_dtype") or SAFETENSORS_DTYPES.get(models.check(base).dtype)
    return "float16" if named == "float16" else "bfloat16"


async def _run(request: Mapping[str, Any]) -> None:
    """Have a process compute what is asked for; it ends with this one, at the latest."""
    try:
        # most of the cores belong to the server
        await errand.run("studio.worker.reference", given=json.dumps(request), timeout_s=TIMEOUT_S, threads=2)
    except TimeoutError:
        raise Unavailable(f"Transformers took longer than {TIMEOUT_S / 60:.0f} minutes") from None
    except errand.ErrandFailed as error:
        raise Unavailable(f"Transformers could not answer: {error}") from None


def _read(path: Path) -> Expected | None:
    value = read_record(path)
    if not value:
        return None
    return Expected(tuple(tuple(Token(*token) for token in row) for row in value["rows"]), float(value["noise"]))


def _state(base: Path) -> list[Any]:
    """Changes when the base model does. Large files are told by their size and time."""
    files = [base / name for name in (*models.weight_files(base), "config.json")]
    return [str(base.resolve()), *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)]


def _digest(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]
