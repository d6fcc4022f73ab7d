"""LLaMA-Factory's keys of several processes: what DeepSpeed's and FSDP's settings say of strategy and offload."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.errors import ConfigError, Problem
from studio.parallel import fsdp_keys, zero
from studio.parallel.foreign import RefusedError

Values = dict[str, Any]
# the files of its examples/deepspeed, which every checkout of it has and no copy of a YAML brings along
WELL_KNOWN = re.compile(r"ds_z([023])(_offload)?(?:_fp8)?_config\.json")
NEVER_S, LONG_S = 86_400, 3600  # its examples wait years for a process that is gone


def deepspeed(value: Any, values: Mapping[str, Any]) -> Values:
    """Settings as they are, with the strategy that they are for; of a file that is not here, what its name says."""
    if isinstance(value, str) and (known := WELL_KNOWN.fullmatch(Path(value).name)):
        return _named(int(known[1]), bool(known[2]))
    section = _zero(value)
    if section is None or (stage := _stage(section)) is None:
        return {"deepspeed": value}
    if stage == 0 and "parallel_strategy" not in values:
        return {"deepspeed": None, "parallel_strategy": "ddp"}
    places = {key: section.get(key) for key in ("offload_optimizer", "offload_param")}
    parts = {key: part for key, part in places.items() if isinstance(part, Mapping) and "device" in part}
    paths = [str(part["nvme_path"]) for part in parts.values() if part.get("nvme_path")]
    return {
        "deepspeed": value,
        "parallel_strategy": f"zero{stage}" if stage else "ddp",
        **{key: str(part["device"]) for key, part in parts.items() if part["device"] in zero.PLACES},
        **({"nvme_path": paths[0]} if paths else {}),
    }


def fsdp(value: Any, _: Mapping[str, Any]) -> Values:
    """The strategy, with offload where it is asked for; nothing of what `problems` names."""
    try:
        return fsdp_keys.words(value or False)
    except (RefusedError, TypeError):
        return {}


def fsdp_config(value: Any, values: Mapping[str, Any]) -> Values:
    """What tunes FSDP, where there is any."""
    return fsdp_keys.settings(value).options if isinstance(value, Mapping) and values.get("fsdp") else {}


def timeout(value: Any, _: Mapping[str, Any]) -> Values:
    """Years become an hour."""
    is_never = isinstance(value, int | float) and value > NEVER_S
    return {"ddp_timeout": LONG_S if is_never else value}


def problems(values: Mapping[str, Any]) -> list[Problem]:
    """What is not there, and what cannot be had of FSDP, by name."""
    found = [Problem("deepspeed", what)] if (what := _wrong(values.get("deepspeed"))) else []
    try:
        fsdp_keys.words(values.get("fsdp") or False)
    except RefusedError as error:
        found.append(Problem("fsdp", f"{values['fsdp']} is not supported; {error}"))
    except TypeError:
        found.append(Problem("fsdp", f"write it as true or full_shard (got {values['fsdp']!r:.60})"))
    if not values.get("fsdp") or not values.get("fsdp_config"):
        return found
    if not isinstance(values["fsdp_config"], Mapping):
        return [*found, Problem("fsdp_config", "there is no such JSON file")]
    return found + fsdp_keys.settings(values["fsdp_config"]).problems


def notes(values: Mapping[str, Any]) -> list[Problem]:
    """What is done in another way than the keys ask for."""
    told = []
    given = values.get("deepspeed")
    if isinstance(given, str) and WELL_KNOWN.fullmatch(Path(given).name):
        strategy = deepspeed(given, {})["parallel_strategy"]
        told.append(Problem("deepspeed", f"{given} is not here: settings for {strategy} are generated instead"))
    elif (section := _zero(given)) is not None and _stage(section) == 0 and "parallel_strategy" not in values:
        told.append(Problem("deepspeed", "stage 0 shards nothing: parallel_strategy: ddp trains the same without it"))
    if timeout(values.get("ddp_timeout"), {})["ddp_timeout"] != values.get("ddp_timeout"):
        told.append(Problem("ddp_timeout", f"is {LONG_S} s: who waits longer waits for a process that is gone"))
    if isinstance(values.get("fsdp_config"), Mapping):
        if not values.get("fsdp"):
            told.append(Problem("fsdp_config", "it only matters with fsdp"))
        else:
            told += fsdp_keys.settings(values["fsdp_config"]).notes
    return told


def _wrong(given: Any) -> str:
    """Why these are no settings of DeepSpeed's that say what they are for; empty where they are."""
    if isinstance(given, str) and given.strip() and not (_is_json(given) or WELL_KNOWN.fullmatch(Path(given).name)):
        return f"there is no file {given!r:.200}, and it is no JSON object {{...}} either"
    section = _zero(given)
    if section is None or _stage(section) is not None:
        return ""
    return f"zero_optimization.stage is 0, 1, 2 or 3 (got {section.get('stage')!r:.60})"


def _is_json(text: str) -> bool:
    return text.lstrip().startswith("{")


def _named(stage: int, is_offloaded: bool) -> Values:
    both: Values = {"offload_optimizer": "cpu", **({"offload_param": "cpu"} if stage == 3 else {})}
    strategy = f"zero{stage}" if stage else "ddp"
    return {"deepspeed": None, "parallel_strategy": strategy, **(both if is_offloaded else {})}


def _stage(section: Mapping[str, Any]) -> int | None:
    """None where it is none of ZeRO's."""
    stage = section.get("stage", 0)
    return int(stage) if stage in (0, 1, 2, 3) and not isinstance(stage, bool) else None


def _zero(value: Any) -> Mapping[str, Any] | None:
    """The section zero_optimization of DeepSpeed's settings; None where `value` is no such settings."""
    try:
        found = zero.parse(json.dumps(value) if isinstance(value, Mapping) else value)
    except (ConfigError, TypeError, ValueError, RecursionError):
        return None
    section = found.get("zero_optimization", {})
    return section if isinstance(section, Mapping) else {"stage": section}
