"""LLaMA-Factory's keys and values that say in other words what an option here says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.config.llamafactory import distributed
from studio.config.train.preference import UNREFERENCED

Values = dict[str, Any]


@dataclass(frozen=True)
class Translation:
    """What becomes of a key: told in words, and done: from its value and all values, the keys that replace it."""

    words: str
    into: Callable[[Any, Mapping[str, Any]], Values]


def translate(values: Mapping[str, Any]) -> Values:
    """`values` with translated keys replaced; what is said in our own words stands, OVERRIDING apart."""
    translated: Values = {}
    for key in TRANSLATED:  # in this order: use_muon has the last word on optim
        if key in values:
            translated |= TRANSLATED[key].into(values[key], values)
    kept = {key: value for key, value in values.items() if key not in TRANSLATED}
    return {**translated, **kept, **{key: value for key, value in translated.items() if key in OVERRIDING}}


def _optimizer(name: str) -> Callable[[Any, Mapping[str, Any]], Values]:
    return lambda wanted, _: {"optim": name} if wanted else {}


def _stage(value: Any, _: Mapping[str, Any]) -> Values:
    return {"stage": "dpo", "pref_loss": value} if value in UNREFERENCED else {"stage": value}


def _optim(value: Any, _: Mapping[str, Any]) -> Values:
    return {"optim": OPTIMIZERS.get(str(value), value)}


def _checkpointing(disabled: Any, _: Mapping[str, Any]) -> Values:
    return {"gradient_checkpointing": "off"} if disabled else {}


def _kernels(used: Any, _: Mapping[str, Any]) -> Values:
    return {} if used is None else {"enable_liger_kernel": used}


def _packing(neat: Any, _: Mapping[str, Any]) -> Values:
    return {"packing": True} if neat else {}


def _validation(value: Any, values: Mapping[str, Any]) -> Values:
    if value is None:
        return {}
    return {"eval_steps": (values.get("eval_steps") or values.get("logging_steps", 1)) if value == "steps" else None}


def _saving(value: Any, _: Mapping[str, Any]) -> Values:
    if value == "best":
        return {"load_best_model_at_end": True}
    return {"save_strategy": "no" if value is False else value}  # YAML reads a plain no as false


def _warmup(value: Any, _: Mapping[str, Any]) -> Values:
    is_share = isinstance(value, float) and 0 < value < 1
    return {"warmup_ratio": value} if is_share else {"warmup_steps": value}


def _name(folder: Any, values: Mapping[str, Any]) -> Values:
    return {} if values.get("run_name") or not folder else {"run_name": Path(str(folder)).name or None}


def _tokens(key: str) -> Callable[[Any, Mapping[str, Any]], Values]:
    return lambda tokens, _: {key: tokens, "resize_vocab": True} if tokens else {key: tokens}


OPTIMIZERS = {
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "lion": "lion_32bit",
    "adamw_hf": "adamw_torch",
}
# here LLaMA-Factory's key is the stronger one
OVERRIDING = frozenset({"optim", "pref_loss", "eval_steps", "packing", "resize_vocab"})
TRANSLATED = {
    "stage": Translation("`orpo` and `simpo` are `stage: dpo` with that `pref_loss`", _stage),
    "output_dir": Translation("its last part becomes `run_name`: every run has its own folder under saves/", _name),
    "optim": Translation("other spellings: " + ", ".join(f"`{a}` is `{b}`" for a, b in OPTIMIZERS.items()), _optim),
    "use_muon": Translation("`optim: muon`", _optimizer("muon")),
    "use_galore": Translation("`optim: galore_adamw`", _optimizer("galore_adamw")),
    "use_apollo": Translation("`optim: apollo_adamw`", _optimizer("apollo_adamw")),
    "disable_gradient_checkpointing": Translation("true is `gradient_checkpointing: off`", _checkpointing),
    "use_liger_kernel": Translation("`enable_liger_kernel`", _kernels),
    "neat_packing": Translation("`packing: true`: packed rows never see each other here", _packing),
    "eval_strategy": Translation(
        "`steps` is `eval_steps`; `epoch` and `no` leave it empty: once an epoch", _validation
    ),
    "evaluation_strategy": Translation("as `eval_strategy`", _validation),
    "save_strategy": Translation("`best` is `load_best_model_at_end: true`", _saving),
    "deepspeed": Translation(
        "its stage sets `parallel_strategy`, and its offload `offload_optimizer` and `offload_param`, where they are "
        "not set; stage 0 is `ddp`. A file is looked for beside the YAML, in the folders above, and where the command "
        "is given; of LLaMA-Factory's own files the name is enough",
        distributed.deepspeed,
    ),
    "ddp_timeout": Translation("more than a day is an hour", distributed.timeout),
    "fsdp": Translation(
        "`true` or `full_shard` is `parallel_strategy: fsdp2`, `offload` is `offload_param: cpu`", distributed.fsdp
    ),
    "fsdp_config": Translation(
        "`offload_params` is `offload_param: cpu`, `activation_checkpointing` is `gradient_checkpointing: on`; what "
        "else it holds is told as without effect, or refused",
        distributed.fsdp_config,
    ),
    "warmup_steps": Translation("a share below 1 is `warmup_ratio`", _warmup),
    "add_tokens": Translation("sets `resize_vocab: true`", _tokens("add_tokens")),
    "add_special_tokens": Translation("sets `resize_vocab: true`", _tokens("add_special_tokens")),
}
