"""What llmcompressor is told to do: its modifiers, in order, for a configuration."""

from __future__ import annotations

from typing import Any

from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme, preset_name_to_scheme
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

from studio.config.quantize import QuantizeConfig

TARGETS = ["Linear"]


def modifiers(config: QuantizeConfig) -> list[Any]:
    """llmcompressor's modifiers; those that shift outliers come before the one that rounds."""
    rounding = {"config_groups": {"group_0": scheme(config)}, "ignore": [f"re:{each}" for each in config.left_out]}
    match config.export_quantization_method:
        case "gptq":
            return [GPTQModifier(**rounding, dampening_frac=config.damp_percent)]
        case "awq":
            return [AWQModifier(), QuantizationModifier(**rounding)]
        case "int8":
            strength = config.smoothing_strength
            smoothing = [SmoothQuantModifier(smoothing_strength=strength)] if strength else []
            return [*smoothing, GPTQModifier(**rounding, dampening_frac=config.damp_percent)]
    return [QuantizationModifier(**rounding)]


def scheme(config: QuantizeConfig) -> QuantizationScheme:
    """Bits, groups and zero points of the linear layers."""
    presets = {"int8": "W8A8", "fp8": "FP8_DYNAMIC"}
    if preset := presets.get(config.export_quantization_method):
        return preset_name_to_scheme(preset, TARGETS)
    grouped = config.group_size > 0
    weights = QuantizationArgs(
        num_bits=config.bits, type="int", symmetric=config.symmetric, strategy="group" if grouped else "channel",
        group_size=config.group_size if grouped else None,
    )  # fmt: skip
    return QuantizationScheme(targets=TARGETS, weights=weights)
