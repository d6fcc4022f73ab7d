"""Models whose weights are held in 4 or 8 bits, below an adapter that is trained in full width."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, CompressedTensorsConfig, PreTrainedModel

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.files import read_record
from studio.planning.parameters import REWARD_HEAD

# how a checkpoint says that it is quantised -> (package to import, package to install)
LIBRARIES = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "awq": ("gptqmodel", "gptqmodel"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
}
HEADS = ["lm_head", REWARD_HEAD]


def keys(config: TrainConfig, folder: Path, computed_in: torch.dtype) -> dict[str, Any]:
    """What from_pretrained is told of quantisation: as asked for, or as the weights of `folder` are stored.

    Raises:
        ModelError: stored in a way that needs a package which is missing, or that is not to be changed.
    """
    stored = read_record(folder / "config.json").get("quantization_config")
    if stored:
        return _as_stored(config, folder, str(stored.get("quant_method")))
    if config.quantization_bit is None:
        return {}
    _require("bitsandbytes", f"quantization_bit: {config.quantization_bit}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every layer and every step
    dtype = config.quantization_compute_dtype
    options = BitsAndBytesConfig(
        load_in_8bit=config.quantization_bit == 8,
        load_in_4bit=config.quantization_bit == 4,
        bnb_4bit_quant_type=config.quantization_type,
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=computed_in if dtype == "auto" else getattr(torch, dtype),
        llm_int8_skip_modules=HEADS,
    )
    return {"quantization_config": options, "device_map": _placement()}


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether weights of a loaded model are held in fewer bits than they are computed in."""
    return bool(getattr(model, "hf_quantizer", None))


def settle(model: PreTrainedModel) -> PreTrainedModel:
    """`model`, kept from repacking its 4-bit weights.

    bitsandbytes 0.50 repacks them at the first evaluation where the CPU has AVX512-BF16. After that training fails on
    layers with a bias, and saving writes broken weights.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _as_stored(config: TrainConfig, folder: Path, method: str) -> dict[str, Any]:
    what = f"{folder} is quantised already ({method})"
    if config.finetuning_type != "lora":
        raise ModelError(f"{what}, and such weights cannot be trained: set finetuning_type: lora")
    if config.quantization_bit:
        raise ModelError(f"{what}: leave quantization_bit empty")
    if method not in LIBRARIES:
        raise ModelError(f"{what}, which cannot be trained on: take the 16-bit model, with quantization_bit if need be")
    _require(LIBRARIES[method][0], what, LIBRARIES[method][1])
    # packed weights have no gradient to hand on to the layers below
    options = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    return {**(options if method == "compressed-tensors" else {}), "device_map": _placement()}


def _placement() -> dict[str, Any]:
    return {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"}


def _require(package: str, what: str, distribution: str = "") -> None:
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # hidden to save the time of its import, which is only done where it is of no use
        found = None
    if not found:
        raise ModelError(f"{what}, which needs the package {package}: pip install {distribution or package}")
