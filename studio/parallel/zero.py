"""DeepSpeed's settings for a training with ZeRO: generated from its options, a person's own going before them.

Values may be "auto", as in the files that are handed around: `filled` puts the numbers in, when a training starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from studio.errors import ConfigError, Problem
from studio.parallel import zero_keys
from studio.parallel.strategies import STRATEGIES

AUTO = "auto"
BUCKET = 100_000_000  # elements in one message: 200 MB of bfloat16, beyond which links get no faster
PLACES = ("none", "cpu", "nvme")
Settings = dict[str, Any]


class Options(Protocol):
    """What of a training's options decides."""

    @property
    def parallel_strategy(self) -> str: ...
    @property
    def offload_optimizer(self) -> str: ...
    @property
    def offload_param(self) -> str: ...
    @property
    def nvme_path(self) -> str | None: ...
    @property
    def deepspeed(self) -> str | None: ...
    @property
    def per_device_train_batch_size(self) -> int: ...
    @property
    def gradient_accumulation_steps(self) -> int: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def bf16(self) -> bool | None: ...
    @property
    def fp16(self) -> bool: ...
    @property
    def optim(self) -> str: ...
    @property
    def lr_scheduler_type(self) -> str: ...


def settings(options: Options) -> Settings:
    """DeepSpeed's settings for a training: a person's own, key by key, before what is generated from its options.

    Raises:
        ConfigError: the person's own are no JSON object.
    """
    own = parse(options.deepspeed) if options.deepspeed else {}
    merged = _merged(_generated(options), own)
    return {key: value for key, value in merged.items() if key not in ("optimizer", "scheduler")}


def parse(text: str) -> Settings:
    """A person's own settings. Comments (keys that begin with _) are left out; numbers may be written as texts.

    Raises:
        ConfigError: they are no JSON object.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError([Problem("deepspeed", f"neither JSON nor the path of a file: {error}")]) from error
    if not isinstance(found, dict):
        raise ConfigError([Problem("deepspeed", f"settings are an object {{...}} (got {text[:40]})")])
    cleaned: Settings = _cleaned(found)
    return cleaned


def problems(settings: Mapping[str, Any]) -> list[str]:
    """What DeepSpeed would not understand, a sentence each."""
    zero = settings.get("zero_optimization", {})
    if not isinstance(zero, Mapping):
        return [f"zero_optimization is an object {{...}} (got {zero!r})"]
    wrong = list(zero_keys.unknown(settings))
    wrong += zero_keys.misused(zero, "zero_optimization")
    if zero.get("stage", 0) not in (0, 1, 2, 3):
        wrong.append(f"zero_optimization.stage is 0, 1, 2 or 3 (got {zero['stage']!r})")
    for part in ("offload_optimizer", "offload_param"):
        section = zero.get(part) or {}
        if not isinstance(section, Mapping):
            wrong.append(f"zero_optimization.{part} is an object {{...}} (got {section!r})")
            continue
        wrong += zero_keys.misused(section, f"zero_optimization.{part}")
        place = section.get("device", "none")
        if place not in PLACES:
            wrong.append(f"zero_optimization.{part}.device is one of {', '.join(PLACES)} (got {place!r})")
    return wrong


def contradictions(options: Options) -> list[str]:
    """Where a person's own settings say something else than the options of the training, a sentence each."""
    if not options.deepspeed:
        return []
    own = parse(options.deepspeed)
    checked = {**_shared(options), **_choices(options)}
    return [
        f"{path} is {value!r}, and {checked[path][0]} asks for {checked[path][1]!r}: set it to {_fix(path)}"
        for path, value in _leaves(own)
        if path in checked and value not in (AUTO, checked[path][1])
    ]


def filled(settings: Settings, options: Options, world: int, precision: str, hidden: int) -> Settings:
    """`settings` with every "auto" replaced: the ones that a training runs with.

    Args:
        world: processes that each take rows of their own.
        precision: what is computed in: float32, bfloat16 or float16.
        hidden: width of the model, from which DeepSpeed's users reckon how much of it travels at once.
    """
    per_process = options.per_device_train_batch_size * options.gradient_accumulation_steps
    values = {
        "train_batch_size": per_process * world,
        "bf16.enabled": precision == "bfloat16",
        "fp16.enabled": precision == "float16",
        "zero_optimization.reduce_bucket_size": hidden * hidden,
        "zero_optimization.stage3_prefetch_bucket_size": hidden * hidden * 9 // 10,
        "zero_optimization.stage3_param_persistence_threshold": 10 * hidden,
        **{path: value for path, (_, value) in _shared(options).items()},
    }
    return _filled(settings, values)


def is_on_disk(settings: Mapping[str, Any]) -> bool:
    """Whether anything is offloaded to an NVMe disk."""
    parts = (settings.get("zero_optimization", {}).get(name) or {} for name in ("offload_optimizer", "offload_param"))
    return any(part.get("device") == "nvme" for part in parts)


def _generated(options: Options) -> Settings:
    stage = STRATEGIES[options.parallel_strategy].stage
    of_stage = _sharded() if stage == 3 else {"allgather_bucket_size": BUCKET, "reduce_bucket_size": BUCKET}
    places = {"offload_optimizer": options.offload_optimizer, "offload_param": options.offload_param}
    offloaded = {name: _place(place, options.nvme_path) for name, place in places.items() if place != "none"}
    if stage < 3:
        offloaded.pop("offload_param", None)
    return {
        "train_batch_size": AUTO,
        "train_micro_batch_size_per_gpu": AUTO,
        "gradient_accumulation_steps": AUTO,
        "gradient_clipping": AUTO,
        "bf16": {"enabled": AUTO},
        "fp16": {"enabled": AUTO},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": True,
            "contiguous_gradients": True,
            **of_stage,
            **offloaded,
        },
    }


def _sharded() -> Settings:
    """What stage 3 alone knows: how much of the weights is whole at a time."""
    return {
        "reduce_bucket_size": AUTO,
        "sub_group_size": 1_000_000_000,
        "stage3_prefetch_bucket_size": AUTO,
        "stage3_param_persistence_threshold": AUTO,
        "stage3_max_live_parameters": 1_000_000_000,
        "stage3_max_reuse_distance": 1_000_000_000,
        "stage3_gather_16bit_weights_on_model_save": True,
    }


def _place(place: str, nvme_path: str | None) -> Settings:
    on_disk = {"nvme_path": nvme_path} if place == "nvme" else {}
    return {"device": place, "pin_memory": True, **on_disk}


def _shared(options: Options) -> dict[str, tuple[str, Any]]:
    """What DeepSpeed and the training are both told: path -> (name of our option, its value)."""
    return {
        "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", options.per_device_train_batch_size),
        "gradient_accumulation_steps": ("gradient_accumulation_steps", options.gradient_accumulation_steps),
        "gradient_clipping": ("max_grad_norm", options.max_grad_norm),
    }


def _choices(options: Options) -> dict[str, tuple[str, Any]]:
    """What only one of the two may decide, as `_shared`: stage, precision and the optimizer."""
    precision = {} if options.bf16 is None else {"bf16.enabled": ("bf16", options.bf16)}
    adam = "AdamW" if options.optim.startswith("adamw_torch") else options.optim
    schedules = {"linear": "WarmupDecayLR", "constant_with_warmup": "WarmupLR", "cosine": "WarmupCosineLR"}
    schedule = schedules.get(options.lr_scheduler_type, options.lr_scheduler_type)
    return {
        **precision,
        "fp16.enabled": ("fp16", options.fp16),
        "zero_optimization.stage": ("parallel_strategy", STRATEGIES[options.parallel_strategy].stage),
        "optimizer.type": ("optim", adam),
        "optimizer.params.lr": ("learning_rate", options.learning_rate),
        "optimizer.params.weight_decay": ("weight_decay", options.weight_decay),
        "scheduler.type": ("lr_scheduler_type", schedule),
        "scheduler.params.warmup_max_lr": ("learning_rate", options.learning_rate),
    }


def _fix(path: str) -> str:
    return "the same, or leave it out" if path.endswith(("stage", "type")) else '"auto", or both to the same'


def _merged(below: Settings, above: Settings) -> Settings:
    both = {key: (below[key], above[key]) for key in below if key in above}
    sections = {key: _merged(*pair) for key, pair in both.items() if all(isinstance(each, dict) for each in pair)}
    return {**below, **above, **sections}


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(each) for key, each in value.items() if not key.startswith("_")}
    return _number(value)


def _number(value: Any) -> Any:
    """5e8 is a text to YAML and a fraction to JSON, and a count to DeepSpeed."""
    if not isinstance(value, str | float):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() and abs(number) >= 1000 else number


def _leaves(settings: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its path, keys joined by dots."""
    for key, value in settings.items():
        name = f"{section}.{key}" if section else key
        if isinstance(value, Mapping):
            yield from _leaves(value, name)
        else:
            yield name, value


def _filled(settings: Settings, values: Mapping[str, Any], section: str = "") -> Settings:
    full: Settings = {}
    for key, value in settings.items():
        name = f"{section}.{key}" if section else key
        if isinstance(value, dict):
            full[key] = _filled(value, values, name)
        elif value != AUTO or name in values:
            full[key] = values[name] if value == AUTO else value
    return full
