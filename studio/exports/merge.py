"""What a merge will read and write, and what is against it: told before it starts, on the page and on the command line.

Reads headers only; that every tensor of an adapter has its place is for the worker's own plan to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil

from studio import models
from studio.config.merge import MergeConfig
from studio.errors import ConfigError, ModelError, Problem
from studio.exports import target
from studio.exports.identity import stranger
from studio.exports.plan import Plan, require_room, size
from studio.models import AdapterInfo, ModelInfo
from studio.runs import outputs
from studio.runs.store import Store

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FULL_BYTES = 8  # of a parameter, while PEFT merges: its float32 and the change of the largest weights
VERIFIED_SHARE = 0.6  # of the free memory, which other programs want, too
STORED_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


def plan(store: Store, config: MergeConfig) -> Plan:
    """What `config` will do.

    Raises:
        ConfigError: it cannot be done, with every reason: damaged folders, a target that exists, too small a disk.
    """
    adapters, problems = _adapters(store, config)
    name = base_name(config, adapters)
    folder = models.folder_of(name) if name else None
    base, found = _base(folder, name)
    problems += [*found, *(Problem("export_dir", what) for what in _against_target(config, folder, adapters))]
    if folder and not problems:
        problems += _misfits(adapters, folder)
    if problems:
        raise ConfigError(problems)
    written = base.parameters * _bytes_each(config, base) if base else None
    if written:
        require_room(Path(config.export_dir).parent if config.export_dir else store.saves, written, "the merged model")
    return Plan(
        title=f"{_told(adapters, config)} into **{models.display_name(name)}**{_about(base)}",
        bytes=written,
        lines=tuple(_lines(config, base, written)),
        warnings=tuple(_warnings(config, adapters, base)),
    )


def verified_in(parameters: int, available_bytes: int) -> Literal["float32", "bfloat16"] | None:
    """What a model of that size is compared in; None where it does not fit at all."""
    room = VERIFIED_SHARE * available_bytes
    return "float32" if parameters * 4 < room else "bfloat16" if parameters * 2 < room else None


def base_name(config: MergeConfig, adapters: Sequence[AdapterInfo]) -> str:
    """The base as a person would name it; empty where nobody did."""
    return config.model_name_or_path or (adapters[0].base if adapters else "")


def _adapters(store: Store, config: MergeConfig) -> tuple[list[AdapterInfo], list[Problem]]:
    found, problems = [], []
    for name in config.adapter_name_or_path:
        try:
            found.append(outputs.adapter_of(store, name, any_kind=config.merge_method == "full_memory"))
        except ModelError as error:
            problems.append(Problem("adapter_name_or_path", str(error)))
    return found, problems


def _base(folder: Path | None, name: str) -> tuple[ModelInfo | None, list[Problem]]:
    """The base in its folder; a hub id that is not here yet is left to the worker, which may ask the network."""
    if folder is None:
        if name and models.is_local(models.resolve(name)):
            return None, [Problem("model_name_or_path", f"{models.resolve(name)} is not a folder: where is the base?")]
        return None, []
    try:
        return models.check(folder), []
    except ModelError as error:
        return None, [Problem("model_name_or_path", str(error))]


def _against_target(config: MergeConfig, base: Path | None, adapters: Sequence[AdapterInfo]) -> Iterator[str]:
    if config.export_dir:
        spared = [*([base] if base else []), *(adapter.path for adapter in adapters)]
        yield from target.objections(Path(config.export_dir), config.overwrite_output_dir, spared)


def _misfits(adapters: Sequence[AdapterInfo], folder: Path) -> Iterator[Problem]:
    for adapter in adapters:
        if why := models.misfit(adapter.path, folder):
            yield Problem("model_name_or_path", f"{adapter.path} was not trained on {folder}: {why}")
        if folder.resolve() == adapter.path.resolve():
            yield Problem(
                "model_name_or_path", f"{folder} is the adapter itself: name the model that it was trained on"
            )


def _bytes_each(config: MergeConfig, base: ModelInfo) -> int:
    return WEIGHT_BYTES.get(config.export_dtype) or STORED_BYTES.get(base.dtype, 4)


def _told(adapters: Sequence[AdapterInfo], config: MergeConfig) -> str:
    told = [_share(adapter, weight) for adapter, weight in zip(adapters, config.weights, strict=True)]
    return " + ".join(told)


def _share(adapter: AdapterInfo, weight: float) -> str:
    named = f"LoRA of rank {adapter.rank}" if adapter.kind == "LORA" else f"adapter of kind {adapter.kind}"
    return named if weight == 1 else f"{weight:g} × {named}"


def _about(base: ModelInfo | None) -> str:
    return f", {base.parameters / 1e6:,.1f} M parameters" if base else " (not on this machine yet)"


def _lines(config: MergeConfig, base: ModelInfo | None, written: int | None) -> Iterator[str]:
    about = f"about {size(written)}" if written is not None else "a model of the size of its base"
    yield f"Writes {about} to {config.export_dir or 'the folder of the run'}"
    if config.verify and base and (computed := verified_in(base.parameters, _available_bytes())):
        yield f"Then compares it with base and adapter in {computed}"
    if not config.verify:
        yield "Nothing will be compared: verify is off"


def _warnings(config: MergeConfig, adapters: Sequence[AdapterInfo], base: ModelInfo | None) -> Iterator[str]:
    for adapter in adapters:
        if base and (what := stranger(adapter.path, base.path)):
            yield what
    if not config.verify:
        yield "a merge that went wrong will not be noticed"
    elif base and config.export_device == "cpu" and verified_in(base.parameters, _available_bytes()) is None:
        yield (
            f"{size(_available_bytes())} of free memory are too little to compare it with base and adapter, so it "
            "would end in quarantine: free some, let export_device=auto use a GPU, or switch verify off"
        )
    if base and config.merge_method == "full_memory" and base.parameters * FULL_BYTES > _available_bytes():
        needed, there = size(base.parameters * FULL_BYTES), size(_available_bytes())
        yield f"full_memory needs about {needed} of memory and {there} are free: stream needs neither"


def _available_bytes() -> int:
    return int(psutil.virtual_memory().available)
