"""Models to compare: base with adapters on it as PEFT runs them, and the merged one; one is in memory at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from studio import models
from studio.exports.merge import verified_in
from studio.worker.merging.proof import Request, Unproven

PREFIX = "base_model.model."


def precision(folder: Path) -> torch.dtype:
    """What a model is compared in here.

    Raises:
        Unproven: it does not fit at all.
    """
    parameters, device = models.check(folder).parameters, place()
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    found = verified_in(parameters, free)
    if found is None:
        raise Unproven(
            f"a model of {parameters / 1e9:.1f} B parameters is too large for {free / 1e9:.1f} GB of free memory"
        )
    return torch.float32 if found == "float32" else torch.bfloat16


def place() -> str:
    """The device to compare on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def loaded(folder: Path, dtype: torch.dtype, trust_remote_code: bool, **options: Any) -> Iterator[PreTrainedModel]:
    """A model, while it is needed."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    writes = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or hasattr(config, "auto_map")
    kind: Any = AutoModelForCausalLM if writes else AutoModelForImageTextToText
    model = kind.from_pretrained(folder, dtype=dtype, trust_remote_code=trust_remote_code, **options)
    yield (model.dequantize().to(dtype) if options else model).eval().to(place())
    del model
    gc.collect()  # layers and what PEFT puts around them hold one another


@contextmanager
def tuned(request: Request, dtype: torch.dtype) -> Iterator[PeftModel]:
    """The base with all adapters of a request on it, each by its share."""
    adapters = [Path(adapter) for adapter in request.adapters]
    options = _quantised(request, dtype) if request.rounding else {}
    with loaded(Path(request.base), dtype, request.trust_remote_code, **options) as model:
        _grow(model, adapters)
        live = _summed(model, adapters, request.weights) if all(map(_is_sum, adapters)) else _stacked(model, adapters)
        yield live.eval()
        del live, model


def _is_sum(adapter: Path) -> bool:
    """Whether an adapter only adds to weights, so that several can be added in any order, each by a share."""
    options = models.adapter_info(adapter).config
    replaces = ("use_dora", "modules_to_save", "trainable_token_indices")
    return options.get("bias", "none") == "none" and not any(options.get(key) for key in replaces)


def _summed(model: PreTrainedModel, adapters: list[Path], weights: Sequence[float]) -> PeftModel:
    names = [f"a{number}" for number in range(len(adapters))]
    live = PeftModel.from_pretrained(model, str(adapters[0]), adapter_name=names[0])
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        live.load_adapter(str(adapter), adapter_name=name)
    live.base_model.set_adapter(names)
    shares = dict(zip(names, weights, strict=True))
    for module in live.modules():
        if isinstance(module, LoraLayer):
            module.scaling.update({name: scale * shares[name] for name, scale in module.scaling.items()})
    return live


def _stacked(model: Any, adapters: list[Path]) -> PeftModel:
    """Each adapter on what those before it made, the last one live."""
    for adapter in adapters[:-1]:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return PeftModel.from_pretrained(model, str(adapters[-1]))


def _quantised(request: Request, dtype: torch.dtype) -> dict[str, Any]:
    """Options to load the base as its training did, by the library that training used."""
    four_bit = request.rounding != "int8"
    scheme = BitsAndBytesConfig(
        load_in_4bit=four_bit,
        load_in_8bit=not four_bit,
        llm_int8_skip_modules=["lm_head"],
        bnb_4bit_quant_type=request.rounding if four_bit else "nf4",
        bnb_4bit_use_double_quant=request.double,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": scheme, "device_map": {"": place()}}


def _grow(model: PreTrainedModel, adapters: list[Path]) -> None:
    """Give the embedding as many rows as an adapter has that was trained with more tokens."""
    ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in ends]
    keys = {f"{PREFIX}{name}{inner}.weight" for name in names for inner in ("", ".base_layer")}
    headers = [models.read_header(adapter / models.ADAPTER_WEIGHTS) for adapter in adapters]
    rows = max((header[key]["shape"][0] for header in headers for key in keys & header.keys()), default=0)
    if rows > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
