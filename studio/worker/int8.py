"""A model with weights and activations of 8 bits, for the benchmark: python -m studio.worker.int8 MODEL_DIR TARGET_DIR

The weights of linear layers become int8 by rounding to nearest, symmetric, with one scale an output channel; the
server quantises activations token by token as they come. Embeddings, norms, biases and the head stay as they are.
One file of the weights after another is read, so that the whole model is never in memory.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from compressed_tensors.quantization import (
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    preset_name_to_scheme,
)
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from studio import models
from studio.errors import ModelError, some
from studio.files import read_record, write_json

REST = (*models.TOKENIZER_PATTERNS, "generation_config.json")
SCHEME = preset_name_to_scheme("W8A8", ["Linear"])


@dataclass(frozen=True)
class Layers:
    """Which weights of a model are quantised, which matrices are left, and the name of the layer of the head."""

    linear: frozenset[str]
    left: frozenset[str]
    head: str | None


def main(source: Path, target: Path) -> int:
    """Write the checkpoint. Returns 0, or 1 when it cannot be, with the reason as the last line of stderr."""
    try:
        write(source, target)
    except (ModelError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def write(source: Path, target: Path) -> None:
    """The checkpoint of the model in `source`, in compressed-tensors' format; `target` appears when it is complete.

    Raises:
        ModelError: the model is incomplete, quantised already, or of a kind that is no stack of linear layers.
        OSError: no room on the disk.
    """
    models.check(source)
    layers = inspect(source)
    draft = target.with_name(f"{target.name}.part")
    draft.mkdir()
    try:
        _write_weights(source, draft, layers.linear)
        _write_rest(source, draft, layers.head)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def inspect(source: Path) -> Layers:
    """What the model in `source` is made of; no weight is read.

    Raises:
        ModelError: it cannot be quantised here, and why.
    """
    if read_record(source / "config.json").get("quantization_config"):
        raise ModelError(f"{source} is quantised already: measure it as a folder, or take the 16-bit model")
    layers = _layers(source)
    stored = {
        name: header["shape"]
        for file in models.weight_files(source)
        for name, header in models.read_header(source / file).items()
    }
    matrices = {name for name, shape in stored.items() if len(shape) > 1}
    if strange := sorted((matrices - layers.left) ^ layers.linear):
        raise ModelError(
            f"{source}: int8 is made of models whose weights are all those of linear layers (nn.Linear), and "
            f"{some(strange)} are not: take another variant, or the folder of a checkpoint that is quantised already"
        )
    return layers


def quantised(name: str, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight `name` [out, in] as int8, and its scales [out, 1] in float32.

    Raises:
        ModelError: it holds NaN or infinity.
    """
    values = weight.float()
    scale, zero = calculate_qparams(*values.aminmax(dim=1, keepdim=True), SCHEME.weights)
    if not scale.isfinite().all():
        raise ModelError(f"{name} holds NaN or infinity: no int8 can be made of it")
    return quantize(values, scale, zero, SCHEME.weights, dtype=torch.int8), scale


def _layers(source: Path) -> Layers:
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise ModelError(f"{source} is none of the models that Transformers knows: {error}".split("\n")[0]) from error
    head = model.get_output_embeddings()
    kinds = dict(model.named_modules())
    linear = {f"{name}.weight" for name, kind in kinds.items() if type(kind) is torch.nn.Linear and kind is not head}
    left = {f"{name}.weight" for name, kind in kinds.items() if kind is head or isinstance(kind, torch.nn.Embedding)}
    return Layers(frozenset(linear), frozenset(left), next((name for name in kinds if kinds[name] is head), None))


def _write_weights(source: Path, draft: Path, linear: Collection[str]) -> None:
    index: dict[str, str] = {}
    files = models.weight_files(source)
    for file in files:
        tensors: dict[str, torch.Tensor] = {}
        with safe_open(source / file, "pt") as weights:
            for name in weights.offset_keys():
                tensors[name] = weights.get_tensor(name)
                if name in linear:
                    tensors[name], tensors[f"{name}_scale"] = quantised(name, tensors[name])
        save_file(tensors, draft / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    if len(files) > 1:
        write_json(draft / models.WEIGHTS_INDEX, {"metadata": {}, "weight_map": index})


def _write_rest(source: Path, draft: Path, head: str | None) -> None:
    """Everything beside the weights, and in the configuration how they are to be read."""
    for path in {path for pattern in REST for path in source.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, draft / path.name)
    groups: dict[str, QuantizationScheme | list[str]] = {"group_0": SCHEME}
    scheme = QuantizationConfig(
        config_groups=groups, ignore=[head] if head else [], format="int-quantized",
        quantization_status=QuantizationStatus.COMPRESSED,
    )  # fmt: skip
    write_json(draft / "config.json", read_record(source / "config.json") | {"quantization_config": scheme.to_dict()})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
