"""What a quantisation will read and write, and what is against it: told before it starts. Reads headers only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from studio import machine, models, packages
from studio.config.quantize import QuantizeConfig
from studio.errors import ConfigError, DatasetError, ModelError, Problem, some
from studio.exports import lineage
from studio.exports.plan import Plan, require_room, size
from studio.exports.texts import filled, find
from studio.files import read_record
from studio.models import ModelInfo
from studio.runs import outputs
from studio.runs.store import Store

STORED_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
SCALE_BYTES = 2.5  # a scale in 16 bits and a zero point
KERNEL_SIZE = 32  # of which both sides of a matrix must be multiples for 4 bits on a CPU
HEADROOM = 1.3  # of the weights: one layer's Hessians and the answers of all rows so far
# what vLLM reads as one matrix, and so quantises as one
JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
TURNED = ("GPT2LMHeadModel", "OpenAIGPTLMHeadModel")  # whose matrices are Conv1D
NO_LINEAR = re.compile(r"embed|wte|wpe|norm|ln_|router|conv")


@dataclass(frozen=True)
class Layers:
    """The linear layers that will be quantised, by the name of their module: [out, in]; `all` has the others too."""

    taken: Mapping[str, tuple[int, int]]
    all: Mapping[str, tuple[int, int]]


def plan(store: Store, config: QuantizeConfig) -> Plan:
    """What `config` will do.

    Raises:
        ConfigError: it cannot be done, with every reason: model, datasets, groups, packages, memory, disk.
    """
    asked, config = config, filled(store, config)
    problems = [*_packages(config), *_datasets(config)]
    try:
        info = models.check(outputs.model_of(store, config.model_name_or_path))
    except ModelError as error:
        raise ConfigError([Problem("model_name_or_path", str(error)), *problems]) from error
    layers = layers_of(info.path, config)
    problems += [*_model(config, info), *_layers(config, layers), *_memory(info)]
    if problems:
        raise ConfigError(problems)
    written = written_bytes(config, info, layers)
    require_room(store.saves, written, "the quantised model")
    return Plan(
        title=f"**{called(store, config)}**, {info.parameters / 1e6:,.1f} M parameters, as {config.scheme}",
        bytes=written,
        lines=(*_lines(config, info, layers, written), *_chosen(asked, config)),
        warnings=tuple(_warnings(config, info, layers)),
    )


def called(store: Store, config: QuantizeConfig) -> str:
    """What people call the model: the run that made it, its folder, or its hub id."""
    run = lineage.maker(store, config.model_name_or_path)
    return run.name if run else lineage.public_name(config.model_name_or_path)


def unserved(config: QuantizeConfig, layers: Layers, has_gpu: bool) -> str:
    """Why vLLM on such a machine does not serve the result; empty where it does."""
    if config.export_quantization_method == "bitsandbytes":
        return "vLLM 0.32 reads no bitsandbytes checkpoints: Transformers does"
    if has_gpu or config.export_quantization_method in ("int8", "fp8"):
        return ""
    if config.bits == 8:
        return "vLLM has no kernel for W8A16 on a CPU, only on GPUs: there take 4 bits, or the method int8"
    if machine.lacks_avx512():
        return "vLLM's 4-bit kernel for CPUs needs AVX512, which this processor does not have: there take int8"
    odd = [name for name, shape in layers.taken.items() if any(side % KERNEL_SIZE for side in shape)]
    return (
        f"vLLM's 4-bit kernel for CPUs takes sizes that are multiples of {KERNEL_SIZE}: not {some(odd)}" if odd else ""
    )


def layers_of(folder: Path, config: QuantizeConfig) -> Layers:
    """The linear layers of a model, told by the names and shapes of its stored weights."""
    stored = {
        name.removesuffix(".weight"): tuple(header["shape"])
        for file in models.weight_files(folder)
        for name, header in models.read_header(folder / file).items()
        if name.endswith(".weight") and len(header["shape"]) == 2 and not NO_LINEAR.search(name)
    }
    left = [re.compile(each) for each in config.left_out]
    taken = {name: shape for name, shape in stored.items() if not any(each.match(name) for each in left)}
    return Layers(taken, stored)


def written_bytes(config: QuantizeConfig, info: ModelInfo, layers: Layers) -> int:
    """About how many bytes the checkpoint will have: weights with their scales, the rest as it is stored."""
    each = STORED_BYTES.get(info.dtype, 4)
    quantised = sum(map(math.prod, layers.taken.values()))
    scales = sum(rows * (columns // _group(config, columns)) for rows, columns in layers.taken.values())
    return int((info.parameters - quantised) * each + quantised * config.bits / 8 + scales * SCALE_BYTES)


def _group(config: QuantizeConfig, columns: int) -> int:
    return config.group_size if config.is_grouped and config.group_size > 0 else columns


def _packages(config: QuantizeConfig) -> Iterator[Problem]:
    key = "export_quantization_method"
    if config.export_quantization_method == "bitsandbytes":
        if not packages.is_installed("bitsandbytes"):
            yield Problem(key, f"needs the package bitsandbytes: {packages.INSTALL['bitsandbytes']}")
    elif why := packages.missing_overlay():
        yield Problem(key, why)


def _chosen(asked: QuantizeConfig, config: QuantizeConfig) -> Iterator[str]:
    if asked != config:
        yield f"{config.export_quantization_dataset} was chosen because the model was trained on it"


def _datasets(config: QuantizeConfig) -> Iterator[Problem]:
    if config.is_calibrated and not config.export_quantization_dataset:
        yield Problem("export_quantization_dataset", "choose a dataset to calibrate with, or the method rtn")
    elif not (config.export_quantization_dataset or config.eval_dataset):
        yield Problem("eval_dataset", "choose a dataset to measure perplexity on")
    for key in ("export_quantization_dataset", "eval_dataset"):
        if name := getattr(config, key):
            try:
                find(config, name)
            except DatasetError as error:
                yield Problem(key, str(error))


def _model(config: QuantizeConfig, info: ModelInfo) -> Iterator[Problem]:
    stored = read_record(info.path / "config.json").get("quantization_config")
    if stored:
        what = stored.get("quant_method") if isinstance(stored, dict) else stored
        yield Problem("model_name_or_path", f"{info.path} is quantised already ({what}): take the model it was made of")
    if info.architecture in TURNED and config.export_quantization_method != "bitsandbytes":
        what = f"{info.architecture} has no linear layers (nn.Linear) that {config.scheme} could be made of"
        yield Problem("export_quantization_method", f"{what}: take bitsandbytes, or GGUF")


def _layers(config: QuantizeConfig, layers: Layers) -> Iterator[Problem]:
    if not layers.taken:
        yield Problem("modules_to_not_convert", "leaves nothing to quantise: name fewer modules")
    size = config.group_size
    if config.is_grouped and size > 0:
        odd = [name for name, (_, columns) in layers.taken.items() if columns % size]
        if odd:
            what = f"{some(odd)} have inputs that are no multiple of {size}"
            yield Problem("group_size", f"{what}: take a smaller group, -1, or leave them out")
    for names in JOINED:
        yield from _joined(names, layers)


def _joined(names: tuple[str, ...], layers: Layers) -> Iterator[Problem]:
    places: dict[str, set[bool]] = {}
    for path in layers.all:
        place, _, name = path.rpartition(".")
        if name in names:
            places.setdefault(place, set()).add(path in layers.taken)
    if torn := [place for place, found in places.items() if len(found) > 1]:
        what = f"leaves out some of {', '.join(names)} in {some(torn)}, and vLLM reads them as one matrix"
        yield Problem("modules_to_not_convert", f"{what}: leave out all of them or none")


def _memory(info: ModelInfo) -> Iterator[Problem]:
    total = psutil.virtual_memory().total
    if _needed(info) > total:
        what = f"needs about {size(_needed(info))} of memory to be quantised, and this machine has {size(total)}"
        yield Problem("model_name_or_path", what)


def _needed(info: ModelInfo) -> float:
    return info.parameters * STORED_BYTES.get(info.dtype, 4) * HEADROOM


def _lines(config: QuantizeConfig, info: ModelInfo, layers: Layers, written: int) -> Iterator[str]:
    whole = info.parameters * STORED_BYTES.get(info.dtype, 4)
    yield f"Writes about {size(written)} in place of {size(whole)}: {len(layers.taken)} linear layers are quantised"
    if config.is_calibrated:
        rows = f"{config.export_quantization_nsamples} rows of {config.export_quantization_dataset}"
        place = "GPU" if _uses_gpu(config) else "CPU"
        yield f"Calibrates with {rows}, up to {config.export_quantization_maxlen} tokens each, on the {place}"
    held = config.eval_dataset or f"{config.export_quantization_dataset} that calibrate nothing"
    yield f"Measures perplexity before and after on {config.eval_samples} rows of {held}"
    if config.measure_speed:
        yield "Then serves both, one after the other, and measures their speed: a minute or more"


def _warnings(config: QuantizeConfig, info: ModelInfo, layers: Layers) -> Iterator[str]:
    if why := unserved(config, layers, _has_gpu()):
        yield f"Not for vLLM on this machine: {why}"
    if config.export_quantization_method == "fp8" and not _has_gpu():
        yield "On a CPU fp8 answers several times slower than the model itself: int8 is the method for it"
    available = psutil.virtual_memory().available
    if _needed(info) > available:
        yield f"It takes about {size(_needed(info))} of memory, {size(available)} are free: stop servers first"
    unmatched = [name for name in config.modules_to_not_convert if name != "lm_head" and not _matches(name, layers)]
    if unmatched:
        yield f"No linear layer is called {some(unmatched)}: nothing is left out for it"
    if config.bits == 8 and config.is_grouped and config.group_size > 0:
        yield "With 8 bits a group_size of -1 loses next to nothing and is faster"


def _matches(name: str, layers: Layers) -> bool:
    only = QuantizeConfig(modules_to_not_convert=(name,)).left_out[0]
    return any(re.match(only, path) for path in layers.all)


def _has_gpu() -> bool:
    return any(machine.gpus())


def _uses_gpu(config: QuantizeConfig) -> bool:
    return config.export_device == "auto" and _has_gpu()
