"""What the adapter tools start from, and what they will do with it: checked by headers alone, before they start."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models
from studio.config.adapter import AdapterConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError, ModelError, Problem, RunNotFound
from studio.exports.plan import Plan, require_room, size
from studio.models import ADAPTER_WEIGHTS, AdapterInfo
from studio.runs import outputs
from studio.runs.run import Run
from studio.runs.store import Store

# A and B of a module as PEFT stores them; whatever is called otherwise was trained whole, or is DoRA's
PART = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?P<end>\.weight|\.bias)?")
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2, "F32": 4, "BF16": 2, "F16": 2}  # bytes
PLAIN_INITS = (True, False, None, "gaussian")  # the others change the base's weights too
# what adapters may differ in and still be averaged: it is worked out anew, or matters only in training
FREE = frozenset(
    {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias", "lora_dropout", "init_lora_weights"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying"}
    | {"base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping", "runtime_config"}
    | {"loftq_config", "eva_config", "corda_config", "qalora_group_size", "megatron_core"}
)
REST_BYTES = 20_000_000  # tokenizer, configuration, report
Header = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What a request names, found on this machine: adapters, or the two models of a difference.

    `base_name` is the base as a person named it.
    """

    adapters: tuple[AdapterInfo, ...] = ()
    tuned: Path | None = None
    base: Path | None = None
    base_name: str = ""


def plan(store: Store, config: AdapterConfig) -> Plan:
    """What `config` will do.

    Raises:
        ConfigError: why it cannot be done, every reason at once.
    """
    found = inputs(store, config)
    title, expected = PLANS[config.action](config, found)
    require_room(store.saves, expected + REST_BYTES, "the new adapter")
    return Plan(title, expected, tuple(_lines(config, found)), tuple(_warnings(config, found)))


def inputs(store: Store, config: AdapterConfig) -> Inputs:
    """What `config` names, found and seen to fit.

    Raises:
        ConfigError: what is missing, damaged, or cannot be done with it.
    """
    if config.tuned_model_name_or_path:
        return _difference(store, config, config.tuned_model_name_or_path)
    problems: list[Problem] = []
    found: list[AdapterInfo] = []
    for name in config.adapter_name_or_path:
        try:
            found.append(checkpoint_of(store, name) if config.action == "extract" else outputs.adapter_of(store, name))
        except ModelError as error:
            problems.append(Problem("adapter_name_or_path", str(error)))
    if not problems:
        problems = [Problem("adapter_name_or_path", why) for why in REFUSALS[config.action](config, found)]
    if problems:
        raise ConfigError(problems)
    return Inputs(tuple(found))


def checkpoint_of(store: Store, name: str) -> AdapterInfo:
    """The adapter in the folder of a checkpoint, or in the newest checkpoint of the run of that id.

    Raises:
        ModelError: there is none.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _newest(store, name)
    if not (folder / "adapter_config.json").exists() and list(folder.glob("model*.safetensors")):
        raise ModelError(f"{folder} is a whole model: set tuned_model_name_or_path to it, with a lora_rank")
    return models.adapter_info(folder.resolve())


def header(info: AdapterInfo) -> Header:
    """The tensors of an adapter: dtype and shape by key."""
    return models.read_header(info.path / ADAPTER_WEIGHTS)


def whole(info: AdapterInfo) -> list[str]:
    """Keys of an adapter that are no A and no B: modules and rows trained whole, magnitudes of DoRA."""
    return [key for key in header(info) if not PART.fullmatch(key)]


def tensors(folder: Path) -> dict[str, tuple[Path, Header]]:
    """Every tensor of a model: its file and its dtype and shape, by name."""
    files = [folder / name for name in models.weight_files(folder)]
    return {name: (file, entry) for file in files for name, entry in models.read_header(file).items()}


def _newest(store: Store, name: str) -> Path:
    try:
        run = store.get(name)
    except RunNotFound as error:
        raise ModelError(f"{name!r} is neither the folder of a checkpoint nor a run") from error
    if not (found := run.checkpoints()):
        has = f"; its finished result is {run.output}" if run.output else ""
        raise ModelError(f"run {run.id} has no checkpoint{has}")
    return found[-1]


def _difference(store: Store, config: AdapterConfig, name: str) -> Inputs:
    try:
        tuned = outputs.model_of(store, name)
        base_name = config.model_name_or_path or _start(tuned)
        base = outputs.model_of(store, base_name)
        for folder in (tuned, base):
            models.check(folder)
        _require_alike(base, tuned)
    except ModelError as error:
        raise ConfigError([Problem("tuned_model_name_or_path", str(error))]) from error
    return Inputs(tuned=tuned, base=base, base_name=base_name)


def _start(tuned: Path) -> str:
    """The model that the training began with whose result or checkpoint is `tuned`."""
    for folder in (tuned.parent, tuned.parent.parent):
        if (folder / "config.yaml").exists() and isinstance(config := Run(folder).config, TrainConfig):
            return config.model_name_or_path
    raise ModelError(f"{tuned} does not say which model it was fine-tuned from: set model_name_or_path")


def _require_alike(base: Path, tuned: Path) -> None:
    """Two models have a difference if every tensor of the one is in the other, in the same shape."""
    ours, theirs = tensors(base), tensors(tuned)
    if only := sorted(ours.keys() ^ theirs.keys()):
        raise ModelError(f"{only[0]} is in one of the two models only: {tuned} was not fine-tuned from {base}")
    for name in ours.keys() & theirs.keys():
        mine, other = ours[name][1]["shape"], theirs[name][1]["shape"]
        if mine != other:
            grown = " (a grown vocabulary does not fit into an adapter)" if mine[1:] == other[1:] else ""
            raise ModelError(f"{name} is {mine} in the base and {other} in the fine-tuned model{grown}")


def _refused_checkpoint(config: AdapterConfig, found: list[AdapterInfo]) -> Iterator[str]:
    for info in found:
        start = info.config.get("init_lora_weights")
        if info.kind != "LORA" or start not in PLAIN_INITS:
            what = info.kind if info.kind != "LORA" else start
            yield (
                f"{info.path} holds an adapter in the making ({what}), which becomes an ordinary one only when the "
                "training saves it: resume the run and stop it"
            )
        elif models.is_local(info.base) and not Path(info.base).is_dir():
            yield (
                f"{info.path} belongs to {info.base}, which is gone: the run had changed its model for the training. "
                "Resume the run and stop it, then it leaves both"
            )


def _refused_scale(config: AdapterConfig, found: list[AdapterInfo]) -> Iterator[str]:
    yield from filter(None, map(_unscalable, found))


def _refused_average(config: AdapterConfig, found: list[AdapterInfo]) -> Iterator[str]:
    yield from filter(None, map(_unscalable, found))
    if experts := [info.path for info in found if info.config.get("target_parameters")]:
        yield f"{experts[0]} changes parameters of experts (target_parameters), which cannot be averaged: merge each"
    first = found[0]
    for other in found[1:]:
        if _base_mark(first) != _base_mark(other):
            yield f"{first.path} belongs to {first.base}, {other.path} to {other.base}: an average needs one base"
        elif unlike := _unlike(first, other):
            yield f"{first.path} and {other.path} differ in {', '.join(unlike)}: an average cannot be both"
        elif key := next((key for key in _shapes(first).items() if _shapes(other).get(key[0], key[1]) != key[1]), None):
            yield f"{key[0]} has another shape in {other.path} than in {first.path}"


def _unscalable(info: AdapterInfo) -> str | None:
    if info.config.get("use_dora"):
        return (
            f"{info.path} is a DoRA adapter, whose change does not grow with its weights: merge it, and extract a "
            "plain adapter from the merged model (action: extract)"
        )
    if (start := info.config.get("init_lora_weights")) not in PLAIN_INITS:
        return f"{info.path} began as {start}, on altered weights of its base: merge it instead"
    if kept := whole(info):
        return (
            f"{info.path} holds weights that were trained whole ({', '.join(kept[:3])}), not as a change of the "
            "base's: merge it instead"
        )
    return None


def _unlike(one: AdapterInfo, other: AdapterInfo) -> list[str]:
    """Options that both would have to share; what is not said is as good as false."""
    keys = (one.config.keys() | other.config.keys()) - FREE
    return sorted(key for key in keys if (one.config.get(key) or None) != (other.config.get(key) or None))


def _base_mark(info: AdapterInfo) -> str:
    """What two adapters of one base have in common: the contents of its config.json, or else its name."""
    path = Path(info.base) / "config.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else info.base


def _shapes(info: AdapterInfo) -> dict[str, tuple[int, ...]]:
    """Sizes of A and B without the rank, by key."""
    return {key: tuple(_outer(key, entry["shape"])) for key, entry in header(info).items()}


def _outer(key: str, shape: list[int]) -> list[int]:
    part = PART.fullmatch(key)
    if part is None or part["end"] == ".bias":
        return shape
    return shape[1:] if part["side"] == "A" else [shape[0], *shape[2:]]


def _nothing_refused(config: AdapterConfig, found: list[AdapterInfo]) -> Iterator[str]:
    yield from ()


def _stored_bytes(info: AdapterInfo, dtype: str) -> int:
    entries = header(info).values()
    return sum(math.prod(each["shape"]) * WIDTHS.get(dtype, WIDTHS.get(each["dtype"], 4)) for each in entries)


def _plan_extract(config: AdapterConfig, found: Inputs) -> tuple[str, int]:
    if found.tuned is None:
        info = found.adapters[0]
        return f"Take the adapter out of `{info.path}` as it is there.", _stored_bytes(info, config.export_dtype)
    entries = [(name, entry) for name, (_, entry) in tensors(found.tuned).items()]
    width = [WIDTHS.get(config.export_dtype, WIDTHS.get(entry["dtype"], 4)) for _, entry in entries]
    each = (_extracted(config, name, entry["shape"]) for name, entry in entries)
    title = (
        f"Take the difference of **{models.display_name(str(found.tuned))}** and "
        f"**{models.display_name(str(found.base))}** as a LoRA adapter of rank {config.lora_rank}."
    )
    return title, sum(count * bytes_ for count, bytes_ in zip(each, width, strict=True))


def _extracted(config: AdapterConfig, name: str, shape: list[int]) -> int:
    """At most so many numbers an adapter holds for one tensor."""
    if keeps_whole(config, name.rpartition(".")[0]):
        return math.prod(shape)
    return min(config.lora_rank, *shape) * sum(shape) if len(shape) == 2 else 0


def keeps_whole(config: AdapterConfig, module: str) -> bool:
    """Whether a module was asked for by name to be kept whole."""
    return any(f".{module}".endswith(f".{target}") for target in config.additional_target)


def _plan_convert(config: AdapterConfig, found: Inputs) -> tuple[str, int]:
    info = found.adapters[0]
    return f"Write `{info.path}` in {config.export_dtype}.", _stored_bytes(info, config.export_dtype)


def _plan_scale(config: AdapterConfig, found: Inputs) -> tuple[str, int]:
    info = found.adapters[0]
    title = f"Write `{info.path}` with its change multiplied by {config.scale:g}."
    return title, _stored_bytes(info, config.export_dtype)


def _plan_average(config: AdapterConfig, found: Inputs) -> tuple[str, int]:
    ranks = sum(info.rank for info in found.adapters)
    total = sum(_stored_bytes(info, config.export_dtype) for info in found.adapters)
    if config.combination_type == "cat" or config.lora_rank >= ranks:
        return f"Average {len(found.adapters)} adapters exactly, into one of rank {ranks}.", total
    title = f"Average {len(found.adapters)} adapters into one of rank {config.lora_rank}, with the error reported."
    return title, total * config.lora_rank // ranks


def _lines(config: AdapterConfig, found: Inputs) -> Iterator[str]:
    if found.tuned:
        yield "Linear layers become A and B; what other weights changed is said in the report, or kept whole if asked."
        return
    shares = config.shares if config.action == "average" else ()
    for share, info in zip(shares, found.adapters, strict=False):
        yield f"{share:.3g} of `{info.path}` (rank {info.rank})"
    first = found.adapters[0]
    rank = "" if shares else f", rank {first.rank}, {size(_stored_bytes(first, 'auto'))}"
    yield f"Base: `{models.display_name(first.base)}`{rank}"


def _warnings(config: AdapterConfig, found: Inputs) -> Iterator[str]:
    if config.additional_target:
        yield "Modules that are kept whole make an adapter for merging: model servers do not take it."
    if found.adapters and config.action in ("extract", "convert") and (kept := whole(found.adapters[0])):
        yield f"It holds more than A and B ({', '.join(kept[:3])}): merge it to serve it."
    total = sum(config.shares) if config.action == "average" else 1.0
    if abs(total - 1) > 1e-6:
        yield f"The shares add up to {total:.3g}, not to 1: the change is that much stronger than an average."


REFUSALS = {
    "extract": _refused_checkpoint,
    "convert": _nothing_refused,
    "scale": _refused_scale,
    "average": _refused_average,
}
PLANS = {"extract": _plan_extract, "convert": _plan_convert, "scale": _plan_scale, "average": _plan_average}
