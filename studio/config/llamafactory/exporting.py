"""LLaMA-Factory's keys in a file of its export command: taken, translated, without effect, or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from studio.config.llamafactory.inert import WITHOUT_EFFECT
from studio.config.llamafactory.refused import INSTEAD
from studio.config.llamafactory.translated import TRANSLATED
from studio.config.train import TrainConfig
from studio.errors import Problem

OTHER_WORK = "it only matters in training or in answering"
CARRIED = "the adapter carries its own: what it was trained with is written"
MERGES_FIRST = "python -m studio merge first, then python -m studio export quantized with the id of that run"
# keys of training that are refused here for the same reason
REFUSED_AS_EVER = (
    "cache_dir", "model_revision", "adapter_folder", "train_from_scratch", "hub_token", "hf_hub_token", "ms_hub_token",
    "om_hub_token",
)  # fmt: skip
REFUSED: dict[str, str] = {
    **{key: INSTEAD[key] for key in REFUSED_AS_EVER},
    "export_legacy_format": "nothing: safetensors, which every loader reads",
    "export_hub_model_id": "python -m studio push with the id of the run and OWNER/NAME, once it is there",
    "quantization_bit": f"dequantize_base, to merge into the base as training saw it, or {MERGES_FIRST}",
    "rope_scaling": "nothing: set it in the config.json of the base, where it then holds for both",
    "adapter_name_or_path": MERGES_FIRST,
    "export_quantization_bit": MERGES_FIRST,
}
NEUTRAL: dict[str, Any] = {"model_revision": "main"}
INERT: dict[str, str] = {
    **dict.fromkeys(("resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config"), CARRIED),
    **dict.fromkeys(("default_system", "enable_thinking", "tool_format", "template"), CARRIED),
    **dict.fromkeys(("export_size", "trust_remote_code"), "it only matters in merging"),
    **dict.fromkeys(
        ("export_quantization_dataset", "export_quantization_nsamples", "export_quantization_maxlen"),
        "it only matters with export_quantization_bit",
    ),
}


def read(values: Mapping[str, Any], options: Collection[str]) -> tuple[dict[str, Any], list[Problem]]:
    """`values` as options of an export that has these `options`, and what is refused of them."""
    problems = [refusal for key, value in values.items() if key not in options and (refusal := _refusal(key, value))]
    if values.get("finetuning_type", "lora") not in ("lora", None):
        problems.append(Problem("finetuning_type", "only adapters of finetuning_type: lora are merged"))
    known = {key: value for key, value in values.items() if key in options or not _is_theirs(key)}
    return _translated(values, options) | known, problems


def without_effect(values: Mapping[str, Any], options: Collection[str]) -> dict[str, str]:
    """Keys of theirs among `values` that say nothing to an export that has these `options`, with the reason."""
    left = [key for key in values if key not in options and _is_theirs(key) and key not in REFUSED]
    said = [key for key in left if key == "finetuning_type" or translation(key, options)]
    return {key: INERT.get(key, OTHER_WORK) for key in left if key not in said}


def _refusal(key: str, value: Any) -> Problem | None:
    if key not in REFUSED or value in (None, False, NEUTRAL.get(key)):
        return None
    return Problem(key, f"is not supported; use instead: {REFUSED[key]}")


def translation(key: str, options: Collection[str]) -> str | None:
    """The option that says what their `key` says, to an export that has these `options`."""
    ours = {"infer_dtype": "export_dtype", "export_dir": "run_name"}.get(key)
    return ours if ours in options and key not in options else None


def _translated(values: Mapping[str, Any], options: Collection[str]) -> dict[str, Any]:
    said = {words: value for key, value in values.items() if value and (words := translation(key, options))}
    return {key: Path(str(value)).name if key == "run_name" else value for key, value in said.items()}


def _is_theirs(key: str) -> bool:
    training = key in TrainConfig.model_fields or key in INSTEAD or key in WITHOUT_EFFECT or key in TRANSLATED
    return training or key in REFUSED or key in INERT
